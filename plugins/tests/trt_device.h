// Device memory, streams and graphs, for tests of the built library. What fails ends the program.
#ifndef TRT_DEVICE_H
#define TRT_DEVICE_H

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "trt_check.h"

namespace device {

constexpr int kNoDevice = 3;

inline void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  const bool absent = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  std::fprintf(stderr, "%s: %s\n", absent ? "no device" : what, cudaGetErrorString(error));
  std::exit(absent ? kNoDevice : 1);
}

// Device memory of exactly so many bytes, `shift` bytes past an aligned address, between two guards.
class Memory {
 public:
  explicit Memory(size_t bytes, size_t shift = 0) : bytes_(bytes), before_(kGuard + shift) {
    must(cudaMalloc(&memory_, before_ + bytes_ + kGuard), "cudaMalloc");
    must(cudaMemset(memory_, kByte, before_ + bytes_ + kGuard), "cudaMemset");
  }
  template <class T>
  explicit Memory(const std::vector<T>& values, size_t shift = 0) : Memory(values.size() * sizeof(T), shift) {
    write(values);
  }
  ~Memory() {
    std::vector<unsigned char> all(before_ + bytes_ + kGuard);
    must(cudaMemcpy(all.data(), memory_, all.size(), cudaMemcpyDeviceToHost), "cudaMemcpy");
    const auto guard = [](unsigned char byte) { return byte == kByte; };
    const auto inside = all.begin() + static_cast<std::ptrdiff_t>(before_);
    check::expect(std::all_of(all.begin(), inside, guard) &&
                      std::all_of(inside + static_cast<std::ptrdiff_t>(bytes_), all.end(), guard),
                  "written beside %zu bytes", bytes_);
    cudaFree(memory_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* data() const { return static_cast<unsigned char*>(memory_) + before_; }
  void clear(cudaStream_t stream) { must(cudaMemsetAsync(data(), 0xFF, bytes_, stream), "cudaMemsetAsync"); }
  template <class T>
  void write(const std::vector<T>& values) {
    must(cudaMemcpy(data(), values.data(), bytes_, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  template <class T>
  std::vector<T> read(cudaStream_t stream) const {
    std::vector<T> values(bytes_ / sizeof(T));
    must(cudaMemcpyAsync(values.data(), data(), bytes_, cudaMemcpyDeviceToHost, stream), "cudaMemcpyAsync");
    must(cudaStreamSynchronize(stream), "the kernel");
    return values;
  }

 private:
  static constexpr size_t kGuard = 256;
  static constexpr unsigned char kByte = 0xA5;
  size_t bytes_, before_;
  void* memory_ = nullptr;
};

// A stream that does not wait for the default one, as a context of a server has it.
struct Stream {
  cudaStream_t at = nullptr;
  Stream() { must(cudaStreamCreateWithFlags(&at, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"); }
  ~Stream() { cudaStreamDestroy(at); }
};

// What a stream was told, to be told again.
class Graph {
 public:
  template <class Work>
  Graph(cudaStream_t stream, Work work) {
    cudaGraph_t recorded = nullptr;
    must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    work();
    must(cudaStreamEndCapture(stream, &recorded), "cudaStreamEndCapture");
    must(cudaGraphInstantiate(&ready_, recorded, 0), "cudaGraphInstantiate");
    cudaGraphDestroy(recorded);
  }
  ~Graph() { cudaGraphExecDestroy(ready_); }
  void launch(cudaStream_t stream) const { must(cudaGraphLaunch(ready_, stream), "cudaGraphLaunch"); }

 private:
  cudaGraphExec_t ready_ = nullptr;
};

inline bool small = false;  // --small: less of each suite
inline std::string facts;   // of the suite that runs: members of a JSON object

// The median of many calls, in microseconds.
template <class Work>
double microseconds(Work work) {
  std::vector<double> times;
  for (int i = 0; i < (small ? 5 : 400); i++) {
    const auto start = std::chrono::steady_clock::now();
    work(i);
    times.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

// PROGRAM [--small] [SUITE...]: runs these, or all, and prints a line of JSON for each. Exit code 0: every check held;
// 1: one did not; 3: no device.
template <size_t kCount>
int main_of(const check::Suite (&suites)[kCount], int argc, char** argv) {
  std::vector<std::string> wanted(argv + 1, argv + argc);
  const auto flag = std::find(wanted.begin(), wanted.end(), "--small");
  small = flag != wanted.end();
  if (small) wanted.erase(flag);
  int number = 0;
  must(cudaGetDevice(&number), "cudaGetDevice");
  for (const check::Suite& suite : suites) {
    if (!wanted.empty() && std::find(wanted.begin(), wanted.end(), suite.name) == wanted.end()) continue;
    const int checks = check::checks, failures = check::failures;
    const auto start = std::chrono::steady_clock::now();
    facts.clear();
    suite.run();
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("{\"suite\": \"%s\", \"checks\": %d, \"failures\": %d, \"seconds\": %.2f, \"facts\": {%s}}\n", suite.name,
                check::checks - checks, check::failures - failures, seconds, facts.c_str());
    std::fflush(stdout);
  }
  return check::failures > 0 || check::checks == 0;
}

}  // namespace device

#endif  // TRT_DEVICE_H
