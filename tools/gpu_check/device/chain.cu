// Chains of layers, launched plainly and as dependent on what comes before (programmatic dependent launch), on a stream
// and in a recorded graph: whether they compute the same bits, and how long a launch takes, in turns.
//
//     chain SAMPLES BYTES...      BYTES: sizes of a tensor
//
// The device, {"capability", "dependent"}: false where the kernels' code cannot wait, and nothing else follows. Then
// {"kernel", "element", "bytes", "differ": {"stream", "graph"}, "us": {"stream", "graph"}}, each as soon as it is known:
// how many of kRepeats runs differ, and {"plain": [...], "dependent": [...]} microseconds a launch. Exit code 3: no device.
#include <cuda_runtime.h>

#include <cstdlib>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "layout.h"
#include "numbers.h"
#include "trt_device.h"

#define run run_resident
#include "kernels.h"
#undef run
#include "kernels/launch.cuh"

namespace {

using apa::Element;
using device::must;

constexpr int kLinks = 12, kTimedLinks = 32, kRepeats = 10, kWarmUp = 3;
constexpr int64_t kChannels = 256;

// Somebody else's kernel, at its worst: it lets the next grid start at once and works late, so that a kernel that reads
// or writes out of turn reads what is not there yet, or spoils what this one has not read.
template <class T>
__global__ void work_late(bool, const T* x, T* y, int64_t count, int64_t ticks) {
#if defined(__CUDA_ARCH__)
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
  for (const int64_t start = clock64(); clock64() - start < ticks;) {
  }
#else
  static_cast<void>(ticks);
#endif
  for (int64_t i = apa::thread_number(); i < count; i += apa::thread_count()) y[i] = x[count - 1 - i];
}

constexpr int64_t kTicks = 40000;  // some 20 microseconds: longer than the next kernel needs to start

struct Case {
  const char* kernel;
  apa::Kind kind;
  Element element;
  bool per_channel;
  apa::Layout (*layout)(int64_t elements);
};

apa::Layout flat(int64_t n) { return {n, {1, 1, 1}, {1, 1, 1, 1}}; }
apa::Layout channels_last(int64_t n) { return {n, {1, static_cast<int32_t>(kChannels), 1}, {1, 1, 1, 1}}; }
apa::Layout planes(int64_t n) { return {n, {n / kChannels, static_cast<int32_t>(kChannels), 1}, {1, 1, 1, 1}}; }
apa::Layout short_rows(int64_t n) { return {n, {4, static_cast<int32_t>(kChannels), 1}, {1, 1, 1, 1}}; }
apa::Layout padded(int64_t n) { return apa::layout_of({1, 5, n / 8, 1}, {apa::Format::Order::VectorMinor, 8, 3}, 1); }

const Case kCases[] = {
    {"scalar", apa::Kind::Unit, Element::Float16, false, flat},
    {"scalar", apa::Kind::Unit, Element::Float32, false, flat},
    {"per channel, channels last", apa::Kind::Unit, Element::Float16, true, channels_last},
    {"per channel, channels first", apa::Kind::Unit, Element::Float16, true, planes},
    {"per channel, short rows", apa::Kind::Unit, Element::Float16, true, short_rows},
    {"gate, padding cleared", apa::Kind::Gate, Element::Float16, false, padded},
};

// One case at one size. `job` but for `dependent`; `x` is where a chain starts.
class Chain {
 public:
  Chain(const Case& c, size_t bytes, int processors)
      : first_(numbers(bytes)), x_(bytes), y_(bytes), table_(apa::channels_of({std::vector<float>(kChannels, 0.5f), {1.1f}})) {
    job_.kind = c.kind;
    job_.element = c.element;
    job_.per_channel = c.per_channel;
    job_.layout = c.layout(static_cast<int64_t>(bytes) / apa::bytes_of(c.element));
    job_.processors = processors;
    job_.scalar = apa::coefficients<float>(0.5, 1.1);
    job_.channels = static_cast<const apa::Channel*>(table_.data());
  }

  // `others`: between some of the layers somebody else's kernel.
  void enqueue(bool dependent, int links, bool others) {
    apa::Job job = job_;
    job.dependent = dependent;
    const void* from = x_.data();
    void* to = y_.data();
    for (int i = 0; i < links; i++) {
      must(others && i % 4 == 2 ? work_late_on(from, to) : apa::run_resident(job, from, to, stream_.at), "launch");
      from = std::exchange(to, const_cast<void*>(from));
    }
  }

  std::vector<unsigned char> result(const std::function<void()>& work) {
    x_.write(first_);
    y_.clear(stream_.at);
    work();
    return x_.read<unsigned char>(stream_.at);  // an even number of links ends where it began
  }

  cudaStream_t stream() const { return stream_.at; }

 private:
  cudaError_t work_late_on(const void* x, void* y) {
    using Word = uint16_t;
    const auto words = static_cast<int64_t>(first_.size() / sizeof(Word));
    return apa::launch(work_late<Word>, job_.processors, stream_.at, false, static_cast<const Word*>(x), static_cast<Word*>(y),
                       words, kTicks);
  }

  std::vector<unsigned char> first_;
  device::Memory x_, y_, table_;
  device::Stream stream_;
  apa::Job job_{};
};

// Bit by bit against the plain launches on the stream.
int count_differences(Chain& chain, const std::function<void()>& work, const std::vector<unsigned char>& wanted) {
  int differ = 0;
  for (int i = 0; i < kRepeats; i++) differ += chain.result(work) != wanted;
  return differ;
}

class Stopwatch {
 public:
  explicit Stopwatch(cudaStream_t stream) : stream_(stream) {
    must(cudaEventCreate(&start_), "cudaEventCreate");
    must(cudaEventCreate(&stop_), "cudaEventCreate");
  }
  ~Stopwatch() { cudaEventDestroy(start_), cudaEventDestroy(stop_); }
  float microseconds(const std::function<void()>& work) {
    must(cudaEventRecord(start_, stream_), "cudaEventRecord");
    work();
    must(cudaEventRecord(stop_, stream_), "cudaEventRecord");
    must(cudaEventSynchronize(stop_), "the kernels");
    float milliseconds = 0;
    must(cudaEventElapsedTime(&milliseconds, start_, stop_), "cudaEventElapsedTime");
    return milliseconds * 1000 / kTimedLinks;
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

// Both ways in turns, each sample a line of numbers.
std::string timed(Stopwatch& watch, int samples, const std::function<void()>& plain, const std::function<void()>& dependent) {
  std::string lists[2];
  for (int i = -kWarmUp; i < samples; i++) {
    const float us[] = {watch.microseconds(plain), watch.microseconds(dependent)};
    for (int way = 0; way < 2 && i >= 0; way++) lists[way] += (lists[way].empty() ? "" : ", ") + std::to_string(us[way]);
  }
  return "{\"plain\": [" + lists[0] + "], \"dependent\": [" + lists[1] + "]}";
}

void measure(const Case& c, size_t bytes, int samples, int processors) {
  const size_t unit = static_cast<size_t>(kChannels) * 4 * static_cast<size_t>(apa::bytes_of(c.element));
  const size_t size = bytes / unit * unit;
  Chain chain(c, size, processors);
  const auto enqueue = [&](bool dependent) { return [&chain, dependent] { chain.enqueue(dependent, kLinks, true); }; };
  const std::vector<unsigned char> wanted = chain.result(enqueue(false));
  const device::Graph checked(chain.stream(), enqueue(true));
  const int on_stream = count_differences(chain, enqueue(true), wanted);
  const int in_graph = count_differences(chain, [&] { checked.launch(chain.stream()); }, wanted);
  const auto links = [&](bool dependent) { return [&chain, dependent] { chain.enqueue(dependent, kTimedLinks, false); }; };
  const device::Graph plain(chain.stream(), links(false)), dependent(chain.stream(), links(true));
  Stopwatch watch(chain.stream());
  const std::string stream_us = timed(watch, samples, links(false), links(true));
  const std::string graph_us = timed(watch, samples, [&] { plain.launch(chain.stream()); },
                                     [&] { dependent.launch(chain.stream()); });
  std::printf("{\"kernel\": \"%s\", \"element\": \"%s\", \"bytes\": %zu, \"differ\": {\"stream\": %d, \"graph\": %d}, "
              "\"us\": {\"stream\": %s, \"graph\": %s}}\n",
              c.kernel, c.element == Element::Float16 ? "float16" : "float32", size, on_stream, in_graph, stream_us.c_str(),
              graph_us.c_str());
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: chain SAMPLES BYTES...\n"), 2;
  int number = 0, major = 0, minor = 0, processors = 0;
  bool dependent = false;
  must(cudaGetDevice(&number), "cudaGetDevice");
  must(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, number), "cudaDeviceGetAttribute");
  must(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, number), "cudaDeviceGetAttribute");
  must(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, number), "cudaDeviceGetAttribute");
  must(apa::can_depend(dependent), "cudaFuncGetAttributes");
  std::printf("{\"capability\": \"%d.%d\", \"dependent\": %s}\n", major, minor, dependent ? "true" : "false");
  std::fflush(stdout);
  for (int i = 2; dependent && i < argc; i++) {
    for (const Case& c : kCases) measure(c, std::strtoull(argv[i], nullptr, 10), std::atoi(argv[1]), processors);
  }
  return check::failures > 0;  // what was written beside a tensor
}
