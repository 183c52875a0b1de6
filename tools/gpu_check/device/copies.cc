// Stands between the plugin's kernel tests and its kernels: takes what a test holds in main memory to the device,
// runs the kernel there, and brings the result back. The kernels are compiled with -Drun=run_resident.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "activation.h"
#include "layout.h"

#define run run_resident
#include "kernels.h"
#undef run

namespace apa {

namespace {

constexpr size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xA5;
constexpr int kNoDevice = 3;

// A test that finds no device must not look like one that found a fault.
void leave_without_device() {
  static const bool here = [] {
    int device = 0;
    const cudaError_t error = cudaGetDevice(&device);
    if (error == cudaSuccess) return true;
    std::fprintf(stderr, "no device: %s\n", cudaGetErrorString(error));
    std::exit(kNoDevice);
  }();
  static_cast<void>(here);
}

// Bytes on the device, as far past a 16-byte boundary as they are in main memory, between two guards.
class Resident {
 public:
  Resident(const void* bytes, size_t size)
      : size_(size), shift_(reinterpret_cast<uintptr_t>(bytes) % 16) {
    staged_.assign(kGuard + shift_ + size_ + kGuard, kGuardByte);
    if (size_ > 0) std::memcpy(staged_.data() + start(), bytes, size_);
    error_ = cudaMalloc(&memory_, staged_.size());
    if (error_ == cudaSuccess) error_ = cudaMemcpy(memory_, staged_.data(), staged_.size(), cudaMemcpyHostToDevice);
  }
  ~Resident() {
    if (memory_) cudaFree(memory_);
  }
  Resident(const Resident&) = delete;
  Resident& operator=(const Resident&) = delete;

  cudaError_t error() const { return error_; }
  void* data() const { return static_cast<unsigned char*>(memory_) + start(); }

  // What is there now; an error where something was written beside it.
  cudaError_t bring(void* target) {
    const cudaError_t error = cudaMemcpy(staged_.data(), memory_, staged_.size(), cudaMemcpyDeviceToHost);
    if (error != cudaSuccess) return error;
    std::memcpy(target, staged_.data() + start(), size_);
    for (size_t i = 0; i < staged_.size(); i++) {
      const bool inside = i >= start() && i < start() + size_;
      if (!inside && staged_[i] != kGuardByte) return cudaErrorIllegalAddress;
    }
    return cudaSuccess;
  }

 private:
  size_t start() const { return kGuard + shift_; }

  size_t size_, shift_;
  std::vector<unsigned char> staged_;
  void* memory_ = nullptr;
  cudaError_t error_ = cudaSuccess;
};

size_t table_bytes(const Job& job) {
  if (!job.per_channel) return 0;
  const size_t entries = static_cast<size_t>(job.layout.walk.groups) * static_cast<size_t>(job.layout.walk.lanes);
  return entries * sizeof(Channel);
}

// start(job, x, y), of which each is on the device; `element`: bytes of one of y's.
template <class Start>
cudaError_t run_there(const Job& job, const void* x, void* y, size_t element, Start start) {
  leave_without_device();
  if (job.layout.count == 0) return start(job, x, y);
  const size_t count = static_cast<size_t>(job.layout.count);
  Resident source(x, count * static_cast<size_t>(bytes_of(job.element))), target(y, count * element);
  Resident table(job.channels, table_bytes(job));
  for (const Resident* one : {&source, &target, &table}) {
    if (one->error() != cudaSuccess) return one->error();
  }
  Job there = job;
  there.channels = static_cast<const Channel*>(table.data());
  const cudaError_t error = start(there, source.data(), target.data());
  return error == cudaSuccess ? target.bring(y) : error;
}

}  // namespace

// As kernels.h declares them, under the name that it has for the tests.
cudaError_t run(const Job& job, const void* x, void* y, cudaStream_t stream) {
  const auto start = [stream](const Job& j, const void* from, void* to) { return run_resident(j, from, to, stream); };
  return run_there(job, x, y, static_cast<size_t>(bytes_of(job.element)), start);
}

cudaError_t run(const Job& job, float scale, const void* x, void* y, cudaStream_t stream) {
  const auto start = [=](const Job& j, const void* from, void* to) { return run_resident(j, scale, from, to, stream); };
  return run_there(job, x, y, 1, start);
}

}  // namespace apa
