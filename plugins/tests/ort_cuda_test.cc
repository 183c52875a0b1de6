// The operators for CUDA, with their kernels run on the CPU, between a stand-in for ONNX Runtime and one for CUDA.
#include <cmath>
#include <cstdlib>
#include <new>

#include "cuda_cpu.h"
#include "cuda_cpu_runtime.h"
#include "ort_cuda_node.h"
#include "trt_check.h"
#include "trt_reference.h"

namespace {

using namespace host;

int64_t allocated = 0;

template <class T>
void check_case(Kind kind, const Case& c, bool in_place) {
  const size_t count = c.count(), rank = c.dims.size();
  host::DeviceMemory in(count * sizeof(T)), other(count * sizeof(T));
  host::DeviceMemory& out = in_place ? in : other;
  std::vector<double> x(count);
  in.copied<T>([&](T* at) {
    for (size_t i = 0; i < count; i++) {
      at[i] = reference::number<T>(std::sin(static_cast<double>(i)) * 6);
      x[i] = reference::value(at[i]);
    }
  });
  int stream = 0;
  OrtKernelContext context{{{c.dims}, count ? in.data() : nullptr}, {{}, count ? out.data() : nullptr}, &stream};
  context.output.info.dims.reserve(8);
  Node node(operator_of<T>(kind), c.info());
  check::expect(node.kernel != nullptr, "not created: %s", node.why.c_str());
  cuda_cpu::calls = {};
  cuda_cpu::last_stream = nullptr;
  allocated = 0;
  OrtStatus* status = node.op.KernelComputeV2(node.kernel, &context);
  const int64_t taken = allocated;
  check::expect(!status, "not run");
  check::expect(taken == 0, "a run allocates %lld bytes", static_cast<long long>(taken));
  const auto& calls = cuda_cpu::calls;
  check::expect(calls.device + calls.allocations + calls.frees + calls.copies + calls.others == 0, "a run asks CUDA");
  check::expect(!count || cuda_cpu::last_stream == reinterpret_cast<cudaStream_t>(&stream), "another stream");
  check::expect(context.output.info.dims == c.dims, "another shape");
  if (!node.kernel || status) return;
  out.copied<T>([&](T* at) {
    for (size_t i = 0; i < count; i++) {
      const size_t channel = c.channel_of(i);
      const double exact = c.exact(kind, x[i], channel);
      check::expect(reference::close<T>(reference::value(at[i]), exact, x[i]), "rank %zu axis %d channel %zu: f(%g) = %g",
                    rank, static_cast<int>(c.axis), channel, x[i], reference::value(at[i]));
    }
  });
}

void values() {
  for (Kind kind : {Kind::Gate, Kind::Unit})
    for (const Case& c : kCases)
      for (bool in_place : {false, true}) {
        check_case<float>(kind, c, in_place);
        check_case<__half>(kind, c, in_place);
        check_case<__nv_bfloat16>(kind, c, in_place);
      }
}

// A node whose shape the model leaves open takes any that fits, one after another, and no other.
void open_shapes() {
  Node node(operator_of<float>(Kind::Unit), node_info(kLambdas, kKappas, 1, {-1, 5, -1}));
  host::DeviceMemory in(4096), out(4096);
  for (const Dims& dims : {Dims{1, 5, 3}, Dims{4, 5, 9}, Dims{2, 5}, Dims{2, 6, 3}, Dims{5}}) {
    OrtKernelContext context{{{dims}, in.data()}, {{}, out.data()}, nullptr};
    const std::string why = node.run(context);
    const bool good = dims.size() > 1 && dims[1] == 5;
    check::expect(good == why.empty(), "%zu dimensions: %s", dims.size(), why.c_str());
    check::expect(good || why.find("node 'layer 3' (com.apa::AGLU)") != std::string::npos, "nameless: %s", why.c_str());
  }
}

void registration() {
  struct Row {
    const char* version;
    uint32_t asked;
    bool good;
  };
  for (const Row& row : {Row{"1.17.0", 17, true}, Row{"1.16.3", 16, false}, Row{"1.99.1", ORT_API_VERSION, true},
                         Row{"2.0.0", ORT_API_VERSION, true}, Row{"1.18.0-dev", 18, true}}) {
    host::version = row.version;
    OrtSessionOptions options;
    const std::string why = said(RegisterCustomOps(&options, &host::base));
    check::expect(host::asked_for == row.asked, "%s: asked for %u", row.version, host::asked_for);
    check::expect(why.empty() == row.good && options.domains.size() == row.good, "%s: %s", row.version, why.c_str());
    check::expect(said(RegisterCustomOps(&options, &host::base)).empty() == row.good, "%s: twice", row.version);
    check::expect(options.domains.size() == row.good, "%s: twice", row.version);
  }
  host::version = nullptr;
  OrtSessionOptions options;
  check::expect(!RegisterCustomOps(&options, &host::base) && options.domains.empty(), "without an API");
  host::version = "1.21.0";
  options.entries["com.apa.registered"] = "CPU";
  const std::string why = said(RegisterCustomOps(&options, &host::base));
  check::expect(why.find("for CPU are registered") != std::string::npos, "beside the CPU's: %s", why.c_str());
  check::expect(operators().size() == 12, "%zu operators", operators().size());
  for (const char* provider : {"CUDAExecutionProvider", "CudaPluginExecutionProvider"})
    for (Kind kind : {Kind::Gate, Kind::Unit}) {
      operator_of<float>(kind, provider), operator_of<__half>(kind, provider), operator_of<__nv_bfloat16>(kind, provider);
    }
}

void refusals() {
  struct Row {
    const char* wanted;
    OrtKernelInfo info;
  };
  const float nan = std::nanf("");
  OrtKernelInfo blocked = node_info(Floats(8, 1), {1}), lone{{{"kappa", {1}}}, {}, {}, {}};
  blocked.integers["block"] = 8;
  for (const Row& row : {Row{"lambda is missing", lone}, Row{"lambda[0] is nan", node_info({nan}, {1})},
                         Row{"lambda[1] is -1", node_info({1, -1}, {1})}, Row{"kappa[0] is inf", node_info({1}, {INFINITY})},
                         Row{"holds no float", node_info({}, {1})}, Row{"3 values and kappa 2", node_info({1, 1, 1}, {1, 1})},
                         Row{"5 parameters for 3 channels", node_info(kLambdas, {1}, 1, {2, 3})},
                         Row{"axis is 2;", node_info(kLambdas, {1}, 2, {2, 5})}, Row{"axis is -3;", node_info(kLambdas, {1}, -3, {2, 5})}, Row{"prepared for the CPU", blocked}}) {
    const Node node(operator_of<float>(Kind::Gate), row.info);
    check::expect(!node.kernel && node.why.find(row.wanted) != std::string::npos, "wanted %s, said %s", row.wanted,
                  node.why.c_str());
    check::expect(node.why.find("node 'layer 3' (com.apa::APA)") == 0, "nameless: %s", node.why.c_str());
  }
}

// CUDA's own words come back with the node's name, nothing is kept, and the next attempt succeeds.
void failing_device() {
  struct Row {
    cudaError_t device;
    int allocation, copy;
  };
  for (const Row& row : {Row{cudaErrorNoDevice, 0, 0}, Row{cudaSuccess, 1, 0}, Row{cudaSuccess, 0, 1}}) {
    cuda_cpu::calls = {};
    cuda_cpu::calls.failing_allocation = row.allocation;
    cuda_cpu::calls.failing_copy = row.copy;
    cuda_cpu::failing = row.device;
    {
      const Node node(operator_of<__half>(Kind::Unit), node_info(kLambdas, kKappas));
      check::expect(!node.kernel && node.why == "node 'layer 3' (com.apa::AGLU) cannot be prepared. CUDA says: injected",
                    "said %s", node.why.c_str());
    }
    cuda_cpu::failing = cudaSuccess;
    check::expect(cuda_cpu::calls.current == 0, "left on another device");
    const Node next(operator_of<__half>(Kind::Unit), node_info(kLambdas, kKappas));
    check::expect(next.kernel != nullptr, "no second chance: %s", next.why.c_str());
  }
}

// The table lies on the provider's device, is uploaded once, and freed; whoever made the session keeps its device.
void devices() {
  for (int device : {0, 3}) {
    cuda_cpu::calls = {};
    cuda_cpu::calls.current = 1;
    OrtKernelInfo info = node_info(kLambdas, kKappas);
    info.memory.device = device;
    {
      const Node node(operator_of<float>(Kind::Unit), info);
      check::expect(cuda_cpu::calls.where == device && cuda_cpu::calls.copies == 1, "table on %d", cuda_cpu::calls.where);
    }
    check::expect(cuda_cpu::calls.current == 1, "left on device %d", cuda_cpu::calls.current);
    check::expect(cuda_cpu::calls.allocations == 1 && cuda_cpu::calls.frees == 1, "%d freed", cuda_cpu::calls.frees);
    check::expect(cuda_cpu::mode == cudaStreamCaptureModeGlobal, "left in another mode of capture");
  }
}

// 1.17 cannot tell the provider's device: the current one is taken, and nothing newer is called.
void oldest_runtime() {
  host::version = "1.17.3";
  OrtSessionOptions options;
  said(RegisterCustomOps(&options, &host::base));
  host::version = "1.21.0";
  const OrtCustomOp& op = *options.domains.at(0)->operators.at(0);
  cuda_cpu::calls = {};
  cuda_cpu::calls.current = 2;
  const OrtKernelInfo info = node_info(kLambdas, kKappas);
  void* kernel = nullptr;
  const std::string why = said(op.CreateKernelV2(&op, &host::oldest_api, &info, &kernel));
  check::expect(kernel && cuda_cpu::calls.where == 2, "table on %d: %s", cuda_cpu::calls.where, why.c_str());
  if (kernel) op.KernelDestroy(kernel);
}

}  // namespace

__attribute__((noinline)) void* operator new(size_t bytes) {
  allocated += static_cast<int64_t>(bytes);
  if (void* memory = std::malloc(bytes ? bytes : 1)) return memory;
  throw std::bad_alloc();
}
__attribute__((noinline)) void operator delete(void* memory) noexcept { std::free(memory); }
__attribute__((noinline)) void operator delete(void* memory, size_t) noexcept { std::free(memory); }

int main(int argc, char** argv) {
  cuda_cpu::on_device = host::DeviceMemory::open;
  const check::Suite suites[] = {{"values", values},     {"open_shapes", open_shapes}, {"registration", registration},
                                 {"refusals", refusals}, {"failing_device", failing_device}, {"devices", devices},
                                 {"oldest_runtime", oldest_runtime}};
  const int code = check::main_of(suites, argc, argv);
  const int kept = host::statuses + host::types + host::shapes + host::allocators;
  if (kept) std::printf("FAIL %d things of ONNX Runtime's are not given back\n", kept);
  return code || kept;
}
