// Times the kernels beside a copy of the same bytes on the device, in turns; prints a line of JSON for each.
//
//     bandwidth SAMPLES BYTES...      BYTES: sizes of the tensor that is read, and of the one that is written
//
// The device, then {"kernel", "element", "bytes", "kernel_ms": [...], "copy_ms": [...]}, each as soon as it is known.
// Exit code 3: no device. A kernel reads and writes every byte once, as the copy does: the ratio of their times is
// the share of the copy's bandwidth that the kernel reaches. Where int8 is written, the copy is of half of all bytes.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "activation.h"
#include "layout.h"
#include "numbers.h"

#define run run_resident
#include "kernels.h"
#undef run

namespace {

using apa::Element;

constexpr int kNoDevice = 3, kWarmUp = 5, kRunsASample = 4;
constexpr int64_t kChannels = 256, kRow = 784;  // of a 28x28 image
constexpr float kScale = 0.05f;                // of codes

void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  const bool absent = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  std::fprintf(stderr, "%s: %s\n", absent ? "no device" : what, cudaGetErrorString(error));
  std::exit(absent ? kNoDevice : 1);
}

enum class Shape { Flat, ChannelsLast, ChannelsFirst };

struct Case {
  const char* kernel;
  Element element;
  Shape shape;
  float lambda;
  bool codes = false;  // int8 results
};

const Case kCases[] = {
    {"scalar, lambda < 1/4", Element::Float32, Shape::Flat, 0.1f},
    {"scalar, lambda >= 1/4", Element::Float32, Shape::Flat, 0.5f},
    {"scalar, lambda < 1/4", Element::Float16, Shape::Flat, 0.1f},
    {"scalar, lambda >= 1/4", Element::Float16, Shape::Flat, 0.5f},
    {"scalar, lambda < 1/4", Element::Bfloat16, Shape::Flat, 0.1f},
    {"scalar, lambda >= 1/4", Element::Bfloat16, Shape::Flat, 0.5f},
    {"per channel, channels last", Element::Float16, Shape::ChannelsLast, 0.5f},
    {"per channel, channels first", Element::Float16, Shape::ChannelsFirst, 0.5f},
    {"scalar, lambda >= 1/4", Element::Float32, Shape::Flat, 0.5f, true},
    {"scalar, lambda >= 1/4", Element::Float16, Shape::Flat, 0.5f, true},
    {"per channel, channels last", Element::Float16, Shape::ChannelsLast, 0.5f, true},
    {"per channel, channels first", Element::Float16, Shape::ChannelsFirst, 0.5f, true},
};

const char* name_of(Element element) {
  switch (element) {
    case Element::Float32: return "float32";
    case Element::Float16: return "float16";
    case Element::Bfloat16: return "bfloat16";
  }
  return "unknown";
}

apa::Layout layout_of(Shape shape, int64_t count) {
  const apa::Walk flat{1, 1, 1}, last{1, static_cast<int32_t>(kChannels), 1},
      first{kRow, static_cast<int32_t>(kChannels), 1};
  const apa::Walk walk = shape == Shape::Flat ? flat : shape == Shape::ChannelsLast ? last : first;
  return {count, walk, {1, 1, 1, 1}};
}

class Memory {
 public:
  explicit Memory(size_t bytes) {
    check(cudaMalloc(&data_, bytes), "cudaMalloc");
    const std::vector<unsigned char> values = numbers(bytes);
    check(cudaMemcpy(data_, values.data(), bytes, cudaMemcpyHostToDevice), "cudaMemcpy");
  }
  ~Memory() { cudaFree(data_); }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

template <class T>
void upload(Memory& memory, const std::vector<T>& values) {
  check(cudaMemcpy(memory.data(), values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "cudaMemcpy");
}

class Stopwatch {
 public:
  Stopwatch() {
    check(cudaEventCreate(&start_), "cudaEventCreate");
    check(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  float milliseconds(const std::function<void()>& work) {
    check(cudaEventRecord(start_, nullptr), "cudaEventRecord");
    for (int i = 0; i < kRunsASample; i++) work();
    check(cudaEventRecord(stop_, nullptr), "cudaEventRecord");
    check(cudaEventSynchronize(stop_), "the kernel");
    float total = 0;
    check(cudaEventElapsedTime(&total, start_, stop_), "cudaEventElapsedTime");
    return total / kRunsASample;
  }

 private:
  cudaEvent_t start_, stop_;
};

apa::Parameters parameters_of(const Case& c) {
  const size_t channels = c.shape == Shape::Flat ? 1 : kChannels;
  return {std::vector<float>(channels, c.lambda), {1.1f}, 1};
}

apa::Job job_of(const Case& c, int64_t count, int32_t processors) {
  apa::Job job{};
  job.kind = apa::Kind::Unit;
  job.element = c.element;
  job.per_channel = c.shape != Shape::Flat;
  job.layout = layout_of(c.shape, count);
  job.processors = processors;
  job.scalar = apa::coefficients<float>(c.lambda, 1.1);
  return job;
}

std::string listed(const std::vector<float>& values) {
  std::string text = "[";
  for (float value : values) text += (text.size() > 1 ? ", " : "") + std::to_string(value);
  return text + "]";
}

void measure(const Case& c, size_t bytes, int samples, int32_t processors) {
  // Whole rows of whole channels, so that a per-channel layout ends where the tensor does.
  const size_t unit = static_cast<size_t>(kChannels * kRow * apa::bytes_of(c.element));
  const size_t size = bytes / unit * unit, element = static_cast<size_t>(apa::bytes_of(c.element));
  const size_t written = c.codes ? size / element : size, moved = (size + written) / 2;
  apa::Job job = job_of(c, static_cast<int64_t>(size) / apa::bytes_of(c.element), processors);
  Memory x(size), y(size), table(kChannels * sizeof(apa::Channel));
  if (job.per_channel) upload(table, apa::channels_of(parameters_of(c)));
  job.channels = static_cast<const apa::Channel*>(table.data());
  const auto kernel = [&] {
    check(c.codes ? apa::run_resident(job, kScale, x.data(), y.data(), nullptr)
                  : apa::run_resident(job, x.data(), y.data(), nullptr), "launch");
  };
  const auto copy = [&] {
    check(cudaMemcpyAsync(y.data(), x.data(), moved, cudaMemcpyDeviceToDevice, nullptr), "cudaMemcpyAsync");
  };
  Stopwatch watch;
  for (int i = 0; i < kWarmUp; i++) watch.milliseconds(kernel), watch.milliseconds(copy);
  std::vector<float> kernel_ms, copy_ms;
  for (int i = 0; i < samples; i++) {
    kernel_ms.push_back(watch.milliseconds(kernel));
    copy_ms.push_back(watch.milliseconds(copy));
  }
  std::printf("{\"kernel\": \"%s\", \"element\": \"%s%s\", \"bytes\": %zu, \"kernel_ms\": %s, \"copy_ms\": %s}\n", c.kernel,
              name_of(c.element), c.codes ? " to int8" : "", moved, listed(kernel_ms).c_str(), listed(copy_ms).c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: bandwidth SAMPLES BYTES...\n"), 2;
  int device = 0, runtime = 0, driver = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  cudaDeviceProp found{};
  check(cudaGetDeviceProperties(&found, device), "cudaGetDeviceProperties");
  check(cudaRuntimeGetVersion(&runtime), "cudaRuntimeGetVersion");
  check(cudaDriverGetVersion(&driver), "cudaDriverGetVersion");
  std::printf("{\"name\": \"%s\", \"capability\": \"%d.%d\", \"processors\": %d, \"memory_bytes\": %zu, "
              "\"l2_bytes\": %d, \"bus_bits\": %d, \"cuda_runtime\": %d, \"cuda_driver\": %d}\n",
              found.name, found.major, found.minor, found.multiProcessorCount, found.totalGlobalMem, found.l2CacheSize,
              found.memoryBusWidth, runtime, driver);
  for (int i = 2; i < argc; i++) {
    for (const Case& c : kCases) {
      measure(c, std::strtoull(argv[i], nullptr, 10), std::atoi(argv[1]), found.multiProcessorCount);
    }
  }
  return 0;
}
