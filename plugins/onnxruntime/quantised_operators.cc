#include "quantised_operators.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "geometry.h"
#include "node.h"

namespace apa {
namespace {

// A task of fewer codes takes less time than a thread needs to wake up.
constexpr size_t kCodesATask = 131072;
// Channels are repeated until they fill vectors; beyond so many, plain code does the rest.
constexpr size_t kMostRepeated = 8192;
constexpr int kMostShift = 20, kLargest = 32767;

const QuantisedOperator* self(const OrtCustomOp* op) { return static_cast<const QuantisedOperator*>(op); }

const char* name_of(Tail tail) {
  return tail == Tail::Unit ? "QLinearAGLU" : tail == Tail::Add ? "QLinearAddAGLU" : "QLinearGatedAddAGLU";
}

struct alignas(64) Kernel {
  uint8_t table[256];
  const OrtApi* api;
  std::string name;
  Tail tail;
  const ByteKernels* kernels;
  double factor[2] = {};
  int zero[3] = {};  // of unsigned codes: 128 more than those of signed ones
  uint8_t flip;
  Sum sum = {};
};

// The largest shift with which `largest` times 2^shift is a 16-bit factor.
int shift_for(double largest) {
  int shift = kMostShift;
  while (shift > 0 && std::ldexp(largest, shift) > kLargest) shift--;
  return shift;
}

int16_t factor_of(double real, int shift) {
  if (!std::isfinite(real)) return real > 0 ? kLargest : 0;
  const double scaled = std::ldexp(real, shift);
  return static_cast<int16_t>(std::lrint(std::fmax(-kLargest, std::fmin(kLargest, scaled))));
}

int32_t constant_of(const Kernel& k, int16_t a, int16_t b, int shift) {
  return static_cast<int32_t>(std::ldexp(k.zero[2] + 0.5, shift)) - a * k.zero[0] - b * k.zero[1];
}

void read_sum(const Node& node, Kernel& k) {
  const std::vector<double> factors = node.floats("factors");
  const std::vector<int64_t> zeros = node.integers("zeros");
  if (factors.size() != 2 || zeros.size() != 3) throw Refusal("wanted two factors and three zeros");
  for (int i = 0; i < 2; i++) {
    k.factor[i] = factors[i];
    if (!(factors[i] > 0) || factors[i] > kLargest) throw Refusal("a factor is not above 0 or too large");
  }
  for (int i = 0; i < 3; i++) {
    k.zero[i] = static_cast<int>(zeros[i]) + k.flip;
    if (k.zero[i] < 0 || k.zero[i] > 255) throw Refusal("a zero point is no code of its type");
  }
  const int shift = shift_for(std::fmax(k.factor[0], k.factor[1]));
  const int16_t a = factor_of(k.factor[0], shift), b = factor_of(k.factor[1], shift);
  k.sum = {a, b, constant_of(k, a, b, shift), shift, k.flip};
}

OrtStatus* create(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** out) {
  const QuantisedOperator& o = *self(op);
  const Node node(api, info, name_of(o.tail));
  return guarded(api, [&] { return node.name(); }, [&]() -> OrtStatus* {
    auto kernel = std::make_unique<Kernel>();
    const std::string table = node.bytes("table");
    if (table.size() != sizeof kernel->table)
      throw Refusal("table has " + std::to_string(table.size()) + " bytes; wanted 256");
    std::memcpy(kernel->table, table.data(), sizeof kernel->table);
    kernel->api = api;
    kernel->name = node.name();
    kernel->tail = o.tail;
    kernel->kernels = o.kernels;
    kernel->flip = o.is_signed ? 0x80 : 0;
    if (o.tail != Tail::Unit) read_sum(node, *kernel);
    *out = kernel.release();
    return nullptr;
  });
}

struct Tensor {
  const void* data = nullptr;
  int64_t dims[kRank] = {};
  size_t rank = 0;
  size_t total() const { return product(dims, 0, rank); }
  bool is_like(const Tensor& o) const { return rank == o.rank && std::equal(dims, dims + rank, o.dims); }
};

OrtStatus* read(const OrtApi* api, OrtKernelContext* context, size_t index, Tensor* to) {
  const OrtValue* value = nullptr;
  void* data = nullptr;
  APA_TRY(api->KernelContext_GetInput(context, index, &value));
  APA_TRY(read_shape(api, value, to->dims, &to->rank));
  APA_TRY(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  to->data = data;
  return nullptr;
}

struct Work {
  const Kernel* kernel;
  const uint8_t *a, *b;
  uint8_t* y;
  Tasks tasks;
};

void run_task(void* data, size_t task) {
  const Work& w = *static_cast<const Work*>(data);
  const Kernel& k = *w.kernel;
  const size_t begin = w.tasks.begin(task), n = w.tasks.end(task) - begin;
  if (k.tail == Tail::Unit) return k.kernels->lookup(k.table, w.a + begin, w.y + begin, n);
  k.kernels->sum(k.table, k.sum, w.a + begin, w.b + begin, w.y + begin, n);
}

OrtStatus* parallel(const OrtApi* api, OrtKernelContext* context, void (*task)(void*, size_t), size_t count,
                    void* work) {
  if (count > 1) return api->KernelContext_ParallelFor(context, task, count, 0, work);
  if (count == 1) task(work, 0);
  return nullptr;
}

// The factors and constants of one sample: as many channels as fill vectors, in their order, and as they are.
struct Sample {
  std::vector<int16_t> factors, plain_factors;
  std::vector<int32_t> constants, plain_constants;
  ChannelSums sums = {}, plain = {};
  size_t repeats = 0;  // pixels that make one of `sums`; 0: only `plain` serves

  void fill(const Kernel& k, const float* gate, size_t channels) {
    double largest = k.factor[1];
    for (size_t c = 0; c < channels; c++) largest = std::fmax(largest, std::fabs(gate[c]) * k.factor[0]);
    const int shift = shift_for(std::isfinite(largest) ? largest : kLargest);
    const int16_t b = factor_of(k.factor[1], shift);
    plain_factors.resize(2 * channels);
    plain_constants.resize(channels);
    for (size_t c = 0; c < channels; c++) {
      const int16_t a = factor_of(gate[c] * k.factor[0], shift);
      plain_factors[2 * c] = a;
      plain_factors[2 * c + 1] = b;
      plain_constants[c] = constant_of(k, a, b, shift);
    }
    plain = {plain_factors.data(), plain_constants.data(), channels, shift, k.flip};
    spread(k.kernels->width);
  }

  void spread(size_t width) {
    const size_t channels = plain.channels;
    repeats = width > 1 ? 1 : 0;
    while (repeats && repeats * channels % width) repeats = (repeats + 1) * channels <= kMostRepeated ? repeats + 1 : 0;
    if (!repeats) return;
    factors.resize(2 * repeats * channels);
    constants.resize(repeats * channels);
    for (size_t i = 0; i < repeats * channels; i++) {
      const size_t to = unpacked(i, width), c = i % channels;
      factors[2 * to] = plain_factors[2 * c];
      factors[2 * to + 1] = plain_factors[2 * c + 1];
      constants[to] = plain_constants[c];
    }
    sums = {factors.data(), constants.data(), repeats * channels, plain.shift, plain.flip};
  }

  void run(const Kernel& k, const uint8_t* a, const uint8_t* b, uint8_t* y, size_t pixels) const {
    const size_t wide = repeats ? pixels / repeats : 0, done = wide * repeats * plain.channels;
    if (wide) k.kernels->channels(k.table, sums, a, b, y, wide);
    scalar_byte_kernels().channels(k.table, plain, a + done, b + done, y + done, pixels - wide * repeats);
  }
};

struct GatedWork {
  const Kernel* kernel;
  const uint8_t *a, *b;
  uint8_t* y;
  size_t channels, pixels, each, tasks;  // `each`: pixels a task; `tasks`: of a sample
  std::vector<Sample> samples;
};

void gated_task(void* data, size_t task) {
  const GatedWork& w = *static_cast<const GatedWork*>(data);
  const size_t sample = task / w.tasks, begin = task % w.tasks * w.each;
  if (begin >= w.pixels) return;
  const size_t at = (sample * w.pixels + begin) * w.channels;
  w.samples[sample].run(*w.kernel, w.a + at, w.b + at, w.y + at, std::min(w.each, w.pixels - begin));
}

OrtStatus* run_gated(const Kernel& k, OrtKernelContext* context, const Tensor& a, const Tensor& b, uint8_t* y) {
  Tensor gate;
  APA_TRY(read(k.api, context, 2, &gate));
  if (a.rank != 4) throw Refusal("wanted maps of rank 4, NHWC");
  const int64_t n = a.dims[0], c = a.dims[3];
  const bool one = gate.rank == 4 && gate.dims[0] == 1;
  if (gate.rank != 4 || (!one && gate.dims[0] != n) || gate.dims[1] != c || gate.dims[2] != 1 || gate.dims[3] != 1)
    throw Refusal("the gate is not (N or 1, C, 1, 1) with C = " + std::to_string(c));
  GatedWork work{&k, static_cast<const uint8_t*>(a.data), static_cast<const uint8_t*>(b.data), y,
                 static_cast<size_t>(c), product(a.dims, 1, 3), 0, 0, std::vector<Sample>(static_cast<size_t>(n))};
  if (!a.total()) return nullptr;
  work.tasks = 1 + work.channels * work.pixels / kCodesATask;
  work.each = ((work.pixels + work.tasks - 1) / work.tasks + 63) / 64 * 64;  // whole groups of repeated channels
  for (size_t i = 0; i < work.samples.size(); i++)
    work.samples[i].fill(k, static_cast<const float*>(gate.data) + (one ? 0 : i * work.channels), work.channels);
  return parallel(k.api, context, gated_task, work.tasks * work.samples.size(), &work);
}

OrtStatus* run(const Kernel& k, OrtKernelContext* context) {
  Tensor a, b;
  APA_TRY(read(k.api, context, 0, &a));
  if (k.tail != Tail::Unit) {
    APA_TRY(read(k.api, context, 1, &b));
    if (!a.is_like(b)) throw Refusal("the two maps have different shapes");
  }
  OrtValue* output = nullptr;
  void* y = nullptr;
  APA_TRY(k.api->KernelContext_GetOutput(context, 0, a.dims, a.rank, &output));
  APA_TRY(k.api->GetTensorMutableData(output, &y));
  if (k.tail == Tail::GatedAdd) return run_gated(k, context, a, b, static_cast<uint8_t*>(y));
  Work work{&k, static_cast<const uint8_t*>(a.data), static_cast<const uint8_t*>(b.data), static_cast<uint8_t*>(y),
            Tasks(a.total(), kCodesATask)};
  return parallel(k.api, context, run_task, work.tasks.count, &work);
}

OrtStatus* compute(void* data, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(data);
  return guarded(kernel.api, [&] { return kernel.name; }, [&] { return run(kernel, context); });
}

}  // namespace

QuantisedOperator::QuantisedOperator(const OrtApi* api_, uint32_t version_, Tail tail_, bool is_signed_,
                                     Instructions allowed)
    : Bound(api_, version_), tail(tail_), is_signed(is_signed_), kernels(&byte_kernels(allowed)) {
  GetName = [](const OrtCustomOp* op) { return name_of(self(op)->tail); };
  GetInputTypeCount = [](const OrtCustomOp* op) -> size_t {
    return self(op)->tail == Tail::Unit ? 1 : self(op)->tail == Tail::Add ? 2 : 3;
  };
  GetInputType = [](const OrtCustomOp* op, size_t i) {
    if (i == 2) return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    return self(op)->is_signed ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  };
  GetOutputType = [](const OrtCustomOp* op, size_t) {
    return self(op)->is_signed ? ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8 : ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
  };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  output_like_input();
}

}  // namespace apa
