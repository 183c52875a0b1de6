// The built library on a device, through IPluginV3 as TensorRT drives it: values of every kind, type and format, copies
// of a plugin, streams of its own, recorded graphs, several contexts, changed addresses, very large tensors.
//
//     APA_TRT_LIBRARY=libapa_trt.so trt_on_device_test [--small] [SUITE...]
#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "trt_check.h"
#include "trt_device.h"
#include "trt_harness.h"
#include "trt_reference.h"
#include "trt_tensor.h"

namespace {

using namespace harness;
using tensors::FormatCase;
using tensors::Tensor;

using device::facts;
using device::Graph;
using device::Memory;
using device::microseconds;
using device::must;
using device::small;
using device::Stream;

constexpr int kReplays = 100;

struct Case {
  const char* kind;
  DataType type;
  FormatCase format;
  bool channels;
  std::vector<int64_t> dims;
  bool codes = false;  // int8 results, of reference::kScale

  Tensor shape() const { return {format, dims}; }
  PluginTensorDesc in() const { return tensor(dims, type, format.format); }
  PluginTensorDesc out() const { return tensor(dims, codes ? DataType::kINT8 : type, format.format); }
  float lambda(int64_t channel) const { return kLambdas[channels ? channel % 5 : 1]; }
  float kappa(int64_t channel) const { return kKappas[channels ? channel % 5 : 1]; }
  std::string name() const {
    return std::string(kind) + " type " + std::to_string(static_cast<int>(type)) + " " + shape().name() +
           (channels ? " per channel" : "") + (codes ? " codes" : "");
  }
  double exact(double z, int64_t channel) const {
    const apa::Kind which = std::strcmp(kind, "APA") ? apa::Kind::Unit : apa::Kind::Gate;
    return reference::activation(which, z, lambda(channel), kappa(channel));
  }
  Owned plugin() const {
    const int64_t count = channels ? dims[1] : 1;
    std::vector<float> lambdas, kappas;
    for (int64_t c = 0; c < count; c++) lambdas.push_back(lambda(c)), kappas.push_back(kappa(c));
    std::vector<Field> fields = {floats("lambda", lambdas), floats("kappa", kappas)};
    if (codes) fields.push_back(floats("scale_out", {reference::kScale}));
    return created(kind, fields);
  }

 private:
  static constexpr float kLambdas[] = {0.f, 0.5f, 0.1f, 2.f, 1.f}, kKappas[] = {1.f, 0.7f, -0.5f, 1.3f, 2.f};
};

int32_t prepared(IPluginV3& p, const Case& c) {
  const PluginTensorDesc in = c.in(), out = c.out();
  return runtime(p).onShapeChange(&in, 1, &out, 1);
}

int32_t enqueued(IPluginV3& p, const Case& c, const Memory& x, const Memory& y, cudaStream_t stream) {
  const PluginTensorDesc in = c.in(), out = c.out();
  const void* sources[] = {x.data()};
  void* targets[] = {y.data()};
  return runtime(p).enqueue(&in, &out, sources, targets, nullptr, stream);
}

// Numbers at the elements; in the padding 0, or NaN where the gate has to clear it. `seed`: others for each.
template <class T>
std::vector<T> numbers(const Case& c, int seed = 0) {
  const bool gate = !std::strcmp(c.kind, "APA");
  std::vector<T> x(static_cast<size_t>(c.shape().count()), reference::number<T>(gate ? std::nan("") : 0.0));
  c.shape().each([&](int64_t at, const tensors::Dims&) {
    x[static_cast<size_t>(at)] = reference::number<T>(std::sin(static_cast<double>(at + 1 + seed * 7)) * 6);
  });
  return x;
}

template <class To, class T>
std::vector<To> ran(IPluginV3& p, const Case& c, const std::vector<T>& x, cudaStream_t stream) {
  const Memory source(x), target(x.size() * sizeof(To));
  const bool good = prepared(p, c) == 0 && enqueued(p, c, source, target, stream) == 0;
  check::expect(good, "%s: not run", c.name().c_str());
  return target.read<To>(stream);
}

template <class T>
bool equal(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

template <class T, class To>
void check_values(const Case& c, cudaStream_t stream) {
  const std::vector<T> x = numbers<T>(c);
  const std::vector<To> y = ran<To>(*c.plugin(), c, x, stream);
  std::vector<char> is_element(y.size(), 0);
  int64_t wrong = 0;
  c.shape().each([&](int64_t at, const tensors::Dims& index) {
    const size_t i = static_cast<size_t>(at);
    const double z = reference::value(x[i]);
    is_element[i] = 1;
    wrong += !reference::is_result<To>(y[i], c.exact(z, index[1]), z);
  });
  for (size_t i = 0; i < y.size(); i++) wrong += !is_element[i] && reference::value(y[i]) != 0;
  check::expect(wrong == 0, "%s: %lld elements wrong", c.name().c_str(), static_cast<long long>(wrong));
}

std::vector<std::vector<int64_t>> shapes() {
  std::vector<std::vector<int64_t>> all = {{2, 5, 3, 3}};
  if (!small) all.push_back({2, 40, 28, 28}), all.push_back({1, 2048, 7, 7});
  return all;
}

void values() {
  Stream stream;
  for (const char* kind : {"APA", "AGLU"}) {
    for (const auto& format : tensors::kFormats) {
      for (bool channels : {false, true}) {
        for (const auto& dims : shapes()) {
          check_values<float, float>({kind, DataType::kFLOAT, format, channels, dims}, stream.at);
          check_values<__half, __half>({kind, DataType::kHALF, format, channels, dims}, stream.at);
          check_values<__nv_bfloat16, __nv_bfloat16>({kind, DataType::kBF16, format, channels, dims}, stream.at);
          check_values<float, int8_t>({kind, DataType::kFLOAT, format, channels, dims, true}, stream.at);
          check_values<__half, int8_t>({kind, DataType::kHALF, format, channels, dims, true}, stream.at);
          check_values<__nv_bfloat16, int8_t>({kind, DataType::kBF16, format, channels, dims, true}, stream.at);
        }
      }
    }
  }
}

const Case kScalar{"AGLU", DataType::kHALF, tensors::kFormats[0], false, {2, 16, 9, 9}};
const Case kChannels{"AGLU", DataType::kFLOAT, tensors::kFormats[0], true, {2, 16, 9, 9}};
const Case kPadded{"APA", DataType::kHALF, tensors::kFormats[7], true, {2, 5, 9, 9}};  // HWC8: a second launch clears
const Case kCodes{"APA", DataType::kHALF, tensors::kFormats[4], true, {2, 5, 9, 9}, true};  // CHW32: so for int8

Owned kept_and_read(IPluginV3& p, const Case& c) {
  const PluginFieldCollection* fields = runtime(p).getFieldsToSerialize();
  if (!check::expect(fields != nullptr, "%s: no fields", c.name().c_str())) return nullptr;
  return Owned(creator(core(p).getPluginName()).createPlugin("read", fields, TensorRTPhase::kRUNTIME));
}

// A clone, a clone of it in a context, and a plugin made of what an engine keeps compute the same bits.
template <class T, class To>
void check_copies(const Case& c) {
  Stream stream;
  const std::vector<T> x = numbers<T>(c);
  const Owned first = c.plugin(), copy(first->clone()), attached(runtime(*copy).attachToContext(nullptr));
  const Owned read = kept_and_read(*first, c);
  const std::vector<To> wanted = ran<To>(*first, c, x, stream.at);
  for (IPluginV3* one : {copy.get(), attached.get(), read.get()}) {
    check::expect(one && equal(ran<To>(*one, c, x, stream.at), wanted), "%s: a copy differs", c.name().c_str());
  }
}

void copies() {
  check_copies<__half, __half>(kScalar);
  check_copies<float, float>(kChannels);
  check_copies<__half, __half>(kPadded);
  check_copies<__half, int8_t>(kCodes);
}

// Recorded thread-locally, while another thread allocates, and replayed: bit-equal, and on what the inputs hold then.
template <class T, class To>
void check_recorded(const Case& c) {
  Stream stream;
  const Owned p = c.plugin();
  const std::vector<T> x = numbers<T>(c), other = numbers<T>(c, 1);
  const std::vector<To> wanted = ran<To>(*p, c, x, stream.at), wanted_other = ran<To>(*p, c, other, stream.at);
  Memory source(x), target(x.size() * sizeof(To));
  int32_t failed = 0;
  cudaError_t beside = cudaSuccess;
  const Graph graph(stream.at, [&] {
    failed = enqueued(*p, c, source, target, stream.at);
    std::thread([&] {
      void* memory = nullptr;
      beside = cudaMalloc(&memory, 4096);
      if (beside == cudaSuccess) beside = cudaFree(memory);
    }).join();
  });
  check::expect(failed == 0 && beside == cudaSuccess, "%s: recording gives %d, beside it %d", c.name().c_str(), failed,
                static_cast<int>(beside));
  int differ = 0;
  for (int i = 0; i < kReplays; i++) {
    target.clear(stream.at);
    graph.launch(stream.at);
    differ += !equal(target.read<To>(stream.at), wanted);
  }
  check::expect(differ == 0, "%s: %d of %d replays differ", c.name().c_str(), differ, kReplays);
  source.write(other);
  graph.launch(stream.at);
  check::expect(equal(target.read<To>(stream.at), wanted_other), "%s: a replay on other inputs", c.name().c_str());
}

void recorded() {
  check_recorded<__half, __half>(kScalar);
  check_recorded<float, float>(kChannels);
  check_recorded<__half, __half>(kPadded);
  check_recorded<__half, int8_t>(kCodes);
}

// Two contexts of one engine, each with a thread, a stream, and shapes that change.
void contexts() {
  Case large = kChannels;
  large.dims = {4, 16, 21, 17};
  const Owned first = kChannels.plugin();
  Stream before;
  const std::vector<float> x = numbers<float>(kChannels), x_large = numbers<float>(large);
  const std::vector<float> y = ran<float>(*first, kChannels, x, before.at),
                           y_large = ran<float>(*first, large, x_large, before.at);
  int wrong[2] = {0, 0};
  const auto work = [&](int number) {
    const Owned mine(runtime(*first).attachToContext(nullptr));
    Stream stream;
    const Memory in(x), out(x.size() * sizeof(float)), in_large(x_large), out_large(x_large.size() * sizeof(float));
    for (int round = 0; round < (small ? 5 : 200); round++) {
      const bool is_large = (round + number) % 2;
      const Case& c = is_large ? large : kChannels;
      const Memory &source = is_large ? in_large : in, &target = is_large ? out_large : out;
      const bool ok = prepared(*mine, c) == 0 && enqueued(*mine, c, source, target, stream.at) == 0;
      wrong[number] += !ok || !equal(target.read<float>(stream.at), is_large ? y_large : y);
    }
  };
  std::thread one(work, 0), two(work, 1);
  one.join(), two.join();
  check::expect(wrong[0] + wrong[1] == 0, "%d and %d runs of two contexts are wrong", wrong[0], wrong[1]);
}

// TensorRT tells the shape again after each change of an address. A graph goes on with its own addresses and shape.
void addresses() {
  Stream stream;
  const Owned p = kChannels.plugin();
  const std::vector<float> x = numbers<float>(kChannels);
  const std::vector<float> wanted = ran<float>(*p, kChannels, x, stream.at);
  const Memory source(x);
  Memory target(x.size() * sizeof(float));
  check::expect(prepared(*p, kChannels) == 0, "not prepared");
  const Graph graph(stream.at, [&] { check::expect(enqueued(*p, kChannels, source, target, stream.at) == 0, "recording"); });
  for (size_t shift : {0, 4, 8, 12}) {  // whole elements, whatever a pack's alignment
    const Memory from(x, shift), to(x.size() * sizeof(float), 12 - shift);
    const bool ok = prepared(*p, kChannels) == 0 && enqueued(*p, kChannels, from, to, stream.at) == 0;
    check::expect(ok && equal(to.read<float>(stream.at), wanted), "at an address %zu bytes on", shift);
  }
  Case large = kChannels;
  large.dims = {5, 16, 13, 3};
  ran<float>(*p, large, numbers<float>(large), stream.at);
  target.clear(stream.at);
  graph.launch(stream.at);
  check::expect(equal(target.read<float>(stream.at), wanted), "the graph after another shape");
}

// More elements than 32 bits count, in place; looked at around 0, 2^31, before 2^32 and at the end, past it.
void check_large(bool channels) {
  const int64_t half = small ? 4096 : int64_t{1} << 31, count = 2 * half + 40, window = 64;  // a multiple of 8
  const size_t bytes = static_cast<size_t>(count) * sizeof(__half);
  size_t free_bytes = 0, total = 0;
  must(cudaMemGetInfo(&free_bytes, &total), "cudaMemGetInfo");
  if (free_bytes < bytes + (size_t{1} << 29)) {
    facts = "\"skipped\": \"needs 9.2 GB of memory\"";
    return;
  }
  const Case c{"AGLU", DataType::kHALF, tensors::kFormats[0], channels, {1, 8, count / 8}};
  void* memory = nullptr;
  must(cudaMalloc(&memory, bytes), "cudaMalloc");
  must(cudaMemset(memory, 0, bytes), "cudaMemset");
  const size_t part = static_cast<size_t>(window) * sizeof(__half);
  std::vector<__half> x, y(static_cast<size_t>(window));
  for (int i = 0; i < window; i++) x.push_back(reference::number<__half>(std::sin(i) * 6.0));
  const auto at = [&](int64_t start) { return static_cast<__half*>(memory) + start; };
  const int64_t starts[] = {0, half - 32, 2 * half - 32 - 64, count - window};
  for (int64_t start : starts) must(cudaMemcpy(at(start), x.data(), part, cudaMemcpyHostToDevice), "cudaMemcpy");
  const Owned p = c.plugin();
  const PluginTensorDesc desc = c.in();
  const void* sources[] = {memory};
  void* targets[] = {memory};
  const bool ok = prepared(*p, c) == 0 && runtime(*p).enqueue(&desc, &desc, sources, targets, nullptr, nullptr) == 0;
  check::expect(ok, "%s: not run", c.name().c_str());
  must(cudaDeviceSynchronize(), "the kernel");
  for (int64_t start : starts) {
    must(cudaMemcpy(y.data(), at(start), part, cudaMemcpyDeviceToHost), "cudaMemcpy");
    for (int64_t i = 0; i < window; i++) {
      const size_t n = static_cast<size_t>(i);
      const double z = reference::value(x[n]), exact = c.exact(z, (start + i) / (count / 8));
      check::expect(reference::close<__half>(reference::value(y[n]), exact, z), "%s: element %lld", c.name().c_str(),
                    static_cast<long long>(start + i));
    }
  }
  cudaFree(memory);
}

void large() {
  for (bool channels : {false, true}) check_large(channels);
}

// What a layer costs the processor: medians in microseconds, not judged.
void host() {
  Stream stream;
  for (bool codes : {false, true}) {
    for (bool channels : {false, true}) {
      const Case c{"AGLU", DataType::kHALF, tensors::kFormats[0], channels, {2, 2048, 7, 7}, codes};
      Case other = c;
      other.dims = {1, 2048, 3, 3};
      const Owned p = c.plugin();
      const size_t bytes = static_cast<size_t>(c.shape().count()) * 2;
      const Memory x(std::vector<unsigned char>(bytes, 0)), y(bytes);
      double first = 0;
      const auto start = std::chrono::steady_clock::now();
      check::expect(prepared(*p, c) == 0, "not prepared");
      first = std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
      const double again = microseconds([&](int) { prepared(*p, c); });
      const double changed = microseconds([&](int i) { prepared(*p, i % 2 ? c : other); });
      check::expect(prepared(*p, c) == 0, "not prepared");
      int failed = 0;
      const double launch = microseconds([&](int) { failed += enqueued(*p, c, x, y, stream.at) != 0; });
      check::expect(failed == 0, "%d launches failed", failed);
      must(cudaStreamSynchronize(stream.at), "the kernel");
      char text[192];
      std::snprintf(text, sizeof text, "%s\"%s%s\": {\"first shape\": %.1f, \"same shape\": %.2f, \"other shape\": %.2f, "
                    "\"enqueue\": %.2f}", facts.empty() ? "" : ", ", codes ? "float16 to int8" : "float16",
                    channels ? ", 2048 channels" : "", first, again, changed, launch);
      facts += text;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"values", values},     {"copies", copies},       {"recorded", recorded}, {"contexts", contexts},
                                 {"addresses", addresses}, {"large", large}, {"host", host}};
  return device::main_of(suites, argc, argv);
}
