// What an execution context asks of the plugin, with the kernels run on the CPU: values through the whole of
// it, in every type and format, and every way in which it may fail.
#include <cmath>
#include <new>

#include "cuda_cpu_runtime.h"
#include "trt_check.h"
#include "trt_harness.h"
#include "trt_reference.h"
#include "trt_tensor.h"

namespace {

using namespace harness;
using tensors::Buffer;

int64_t allocated_bytes = 0;

// Fails the allocation of that number, counted down; negative: none fails.
int allowed_allocations = -1;

const std::vector<float> kLambdas = {0.f, 0.5f, 0.1f, 2.f, 1.f}, kKappas = {1.f, 0.7f, -0.5f, 1.3f, 2.f};

Owned with_scale(const char* kind, std::vector<Field> fields, float scale) {
  if (scale > 0) fields.push_back(floats("scale_out", {scale}));
  return created(kind, fields);
}

Owned five_channels(const char* kind, float scale = 0) {
  return with_scale(kind, {floats("lambda", kLambdas), floats("kappa", kKappas)}, scale);
}

apa::Kind kind_of(const char* name) { return std::strcmp(name, "APA") ? apa::Kind::Unit : apa::Kind::Gate; }

int32_t prepared(IPluginV3& p, const PluginTensorDesc& in, const PluginTensorDesc& out) {
  return runtime(p).onShapeChange(&in, 1, &out, 1);
}

template <class T, class To>
int32_t enqueued(IPluginV3& p, const PluginTensorDesc& desc, T* x, To* y) {
  const void* sources[] = {x};
  void* targets[] = {y};
  return runtime(p).enqueue(&desc, &desc, sources, targets, nullptr, nullptr);
}

template <class T, class To>
void check_values(const char* kind, DataType type, const tensors::FormatCase& format, bool channels) {
  const tensors::Tensor shape{format, {2, 5, 3, 3}};
  const float scale = sizeof(To) == 1 ? reference::kScale : 0;
  const PluginTensorDesc desc = tensor(shape.dims, type, format.format);
  const PluginTensorDesc out = tensor(shape.dims, scale > 0 ? DataType::kINT8 : type, format.format);
  const Owned p = channels ? five_channels(kind, scale)
                           : with_scale(kind, {floats("lambda", {0.5f}), floats("kappa", {0.7f})}, scale);
  Buffer<T> x(shape.count());
  Buffer<To> y(shape.count());
  for (int64_t i = 0; i < shape.count(); i++) x[i] = reference::number<T>(std::sin(static_cast<double>(i)) * 5);
  check::expect(prepared(*p, desc, out) == 0 && enqueued(*p, desc, x.data(), y.data()) == 0, "not run");
  shape.each([&](int64_t at, const tensors::Dims& index) {
    const size_t c = channels ? static_cast<size_t>(index[1]) : 1;
    const double z = reference::value(x[at]), lambda = channels ? kLambdas[c] : 0.5f;
    const double exact = reference::activation(kind_of(kind), z, lambda, channels ? kKappas[c] : 0.7f);
    check::expect(reference::is_result<To>(y[at], exact, z), "%s %s type %d to %d channel %zu: f(%g) = %g", kind,
                  format.name, static_cast<int>(type), static_cast<int>(out.type), c, z, reference::value(y[at]));
  });
}

void values() {
  for (const char* kind : {"APA", "AGLU"}) {
    for (const auto& format : tensors::kFormats) {
      for (bool channels : {false, true}) {
        check_values<float, float>(kind, DataType::kFLOAT, format, channels);
        check_values<__half, __half>(kind, DataType::kHALF, format, channels);
        check_values<__nv_bfloat16, __nv_bfloat16>(kind, DataType::kBF16, format, channels);
        check_values<float, int8_t>(kind, DataType::kFLOAT, format, channels);
        check_values<__half, int8_t>(kind, DataType::kHALF, format, channels);
        check_values<__nv_bfloat16, int8_t>(kind, DataType::kBF16, format, channels);
      }
    }
  }
}

// A tensor without dimensions, one without elements, and a shape that changes.
void shapes() {
  const Owned p = scalar();
  float x[12], y[12];
  for (int i = 0; i < 12; i++) x[i] = static_cast<float>(i) - 6, y[i] = -777;
  for (int64_t n : {1, 12, 5}) {
    const auto desc = n == 1 ? tensor({}) : tensor({n});
    check::expect(prepared(*p, desc, desc) == 0 && enqueued(*p, desc, x, y) == 0, "%d elements", static_cast<int>(n));
    for (int64_t i = 0; i < n; i++) {
      const double exact = reference::activation(apa::Kind::Unit, x[i], 0.5, static_cast<double>(1.2f));
      check::expect(reference::close<float>(y[i], exact, x[i]), "element %d", static_cast<int>(i));
    }
    check::expect(n == 12 || n == 5 || y[n] == -777.f, "wrote beyond %d", static_cast<int>(n));
  }
  const auto empty = tensor({0, 5, 3});
  check::expect(prepared(*p, empty, empty) == 0 && enqueued<float, float>(*p, empty, nullptr, nullptr) == 0, "empty");
}

// The same shape, or another one, uploads nothing again; enqueue never allocates; what was taken is given back.
void memory() {
  cuda_cpu::calls = {};
  const auto small = tensor({2, 5, 3}), large = tensor({4, 5, 6});
  {
    const Owned p = five_channels("AGLU");
    float x[120] = {}, y[120];
    for (const auto& desc : {small, large, small}) {
      check::expect(prepared(*p, desc, desc) == 0, "not prepared");
      allowed_allocations = 0;  // none until the kernel has run
      const int32_t error = enqueued(*p, desc, x, y);
      allowed_allocations = -1;
      check::expect(error == 0, "enqueue allocates");
    }
    check::expect(cuda_cpu::calls.allocations == 1 && cuda_cpu::calls.copies == 1, "%d allocations, %d copies",
                  cuda_cpu::calls.allocations, cuda_cpu::calls.copies);
  }
  check::expect(cuda_cpu::calls.frees == 1, "%d frees", cuda_cpu::calls.frees);
}

// TensorRT says that the shape changed after each change of an address: nothing is computed, asked or kept again.
void unchanged() {
  const std::vector<float> lambdas(2048, 0.5f), kappas(2048, 1.1f);
  for (const float scale : {0.f, 0.05f}) {
    const DataType type = DataType::kHALF, out = scale > 0 ? DataType::kINT8 : type;
    const Owned p = with_scale("AGLU", {floats("lambda", lambdas), floats("kappa", kappas)}, scale);
    const auto desc = tensor({2, 2048, 7, 7}, type), made = tensor({2, 2048, 7, 7}, out);
    const auto other = tensor({1, 2048, 3, 3}, type), other_made = tensor({1, 2048, 3, 3}, out);
    check::expect(prepared(*p, desc, made) == 0, "not prepared");
    cuda_cpu::calls = {};
    allocated_bytes = 0;
    check::expect(prepared(*p, desc, made) == 0 && prepared(*p, other, other_made) == 0, "not prepared again");
    check::expect(allocated_bytes < 1024, "%lld bytes of tables made again", static_cast<long long>(allocated_bytes));
    check::expect(cuda_cpu::calls.device == 0, "%d questions to the driver again", cuda_cpu::calls.device);
  }
}

void misuse() {
  Said said;
  const Owned p = five_channels("APA");
  const auto good = tensor({2, 5, 3}), bad = tensor({2, 6, 3}), half = tensor({2, 5, 3}, DataType::kHALF);
  const auto codes = tensor({2, 5, 3}, DataType::kINT8);
  float x[30] = {}, y[30];
  check::expect(enqueued(*p, good, x, y) != 0, "enqueue before onShapeChange");
  check::expect(prepared(*p, bad, bad) != 0, "6 channels");
  check::expect(prepared(*p, good, half) != 0, "another type out");
  check::expect(prepared(*p, good, codes) != 0, "codes without a scale");
  check::expect(prepared(*five_channels("APA", 0.1f), good, good) != 0, "a scale without codes");
  check::expect(enqueued(*p, good, x, y) != 0, "enqueue after a refusal");
  check::expect(prepared(*p, good, good) == 0, "the right shape");
  check::expect(enqueued<float, float>(*p, good, nullptr, y) != 0, "no source");
  check::expect(enqueued<float, float>(*p, good, x, nullptr) != 0, "no target");
  check::expect(runtime(*p).enqueue(&good, &good, nullptr, nullptr, nullptr, nullptr) != 0, "no lists");
  check::expect(runtime(*p).onShapeChange(&good, 2, &good, 1) != 0, "two inputs");
  check::expect(runtime(*p).onShapeChange(nullptr, 1, &good, 1) != 0, "no input");
  check::expect(enqueued(*p, good, x, y) != 0, "enqueue after a refusal");
}

// CUDA's own code comes back, the reason is said, nothing is kept, and a later attempt succeeds.
void failing_device() {
  struct Case {
    const char* name;
    cudaError_t device;
    int allocation, copy;
    int32_t wanted;
  };
  const Case table[] = {{"no driver", cudaErrorInsufficientDriver, 0, 0, cudaErrorInsufficientDriver},
                        {"no memory", cudaSuccess, 1, 0, cudaErrorMemoryAllocation},
                        {"no copy", cudaSuccess, 0, 1, cudaErrorInvalidValue}};
  for (const Case& c : table) {
    Said said;
    const Owned p = five_channels("AGLU");
    const auto desc = tensor({2, 5, 3});
    float x[30] = {}, y[30];
    cuda_cpu::calls = {};
    cuda_cpu::calls.failing_allocation = c.allocation;
    cuda_cpu::calls.failing_copy = c.copy;
    cuda_cpu::failing = c.device;
    const int32_t error = prepared(*p, desc, desc);
    cuda_cpu::failing = cudaSuccess;
    check::expect(error == c.wanted, "%s: %d", c.name, error);
    check::expect(enqueued(*p, desc, x, y) != 0, "%s: enqueue all the same", c.name);
    check::expect(prepared(*p, desc, desc) == 0 && enqueued(*p, desc, x, y) == 0, "%s: no second chance", c.name);
    check::expect(said.has("injected"), "%s: said %s", c.name, said.text().c_str());
  }
}

// Out of memory at every allocation in turn: null or an error, never an exception.
void failing_memory() {
  Said said;
  std::vector<PluginField> bare = {{"lambda", kLambdas.data(), PluginFieldType::kFLOAT32, 5},
                                   {"kappa", kKappas.data(), PluginFieldType::kFLOAT32, 5}};
  const PluginFieldCollection fields{2, bare.data()};
  const auto desc = tensor({2, 5, 3, 3}, DataType::kHALF, TensorFormat::kHWC8);
  int32_t refusals = 0;
  for (int allowed = 0; allowed < 60; allowed++) {
    IPluginCreatorV3One& c = creator("AGLU");
    allowed_allocations = allowed;
    const Owned p(c.createPlugin("layer", &fields, TensorRTPhase::kBUILD));
    const Owned copy(p ? p->clone() : nullptr);
    const bool kept = copy && runtime(*copy).getFieldsToSerialize() != nullptr;
    const bool ready = kept && prepared(*copy, desc, desc) == 0;
    allowed_allocations = -1;
    refusals += !ready;
  }
  check::expect(refusals > 5 && refusals < 60, "%d of 60 refused", refusals);
}

}  // namespace

// The program's own, so that it can fail. Not inlined, or the compiler takes malloc and delete for a mismatch.
__attribute__((noinline)) void* operator new(size_t bytes) {
  allocated_bytes += static_cast<int64_t>(bytes);
  if (allowed_allocations == 0) throw std::bad_alloc();
  if (allowed_allocations > 0) allowed_allocations--;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, size_t) noexcept { std::free(memory); }

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"values", values},
                                 {"shapes", shapes},       {"memory", memory},           {"unchanged", unchanged},
                                 {"misuse", misuse},       {"failing_device", failing_device},
                                 {"failing_memory", failing_memory}};
  return check::main_of(suites, argc, argv);
}
