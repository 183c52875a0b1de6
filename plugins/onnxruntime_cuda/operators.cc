// Everything that allocates or asks the device happens as a kernel is created. A run reads shapes and addresses, asks
// ONNX Runtime for its stream, and launches: so it can be captured in a CUDA graph, and never waits.
#include "operators.h"

#include <memory>
#include <string>

#include "device_memory.h"
#include "kernels.h"
#include "node.h"

namespace apa {
namespace {

const char* name_of(Kind kind) { return kind == Kind::Gate ? "APA" : "AGLU"; }

const CudaOperator* self(const OrtCustomOp* op) { return static_cast<const CudaOperator*>(op); }

ONNXTensorElementDataType type_of(Element element) {
  return element == Element::Float16    ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
         : element == Element::Bfloat16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16
                                        : ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

struct CudaKernel {
  const OrtApi* api;
  std::string name;
  Attributes attributes;
  Job job{};  // its layout belongs to a run
  DeviceMemory table;
};

// ONNX Runtime 1.18 and later tell which device the node's provider runs on.
constexpr uint32_t kTellsAllocator = 18;

// The device of the node's provider. ONNX Runtime makes it current around a run; here another may be, as long as it
// can tell.
OrtStatus* find_device(const OrtApi* api, uint32_t version, const OrtKernelInfo* info, int* device) {
  if (version < kTellsAllocator) return cudaGetDevice(device), nullptr;  // what fails here fails below as well
  OrtAllocator* allocator = nullptr;
  const OrtMemoryInfo* memory = nullptr;
  APA_TRY(api->KernelInfoGetAllocator(info, OrtMemTypeDefault, &allocator));
  OrtStatus* status = api->AllocatorGetInfo(allocator, &memory);
  if (!status) status = api->MemoryInfoGetId(memory, device);
  api->ReleaseAllocator(allocator);
  return status;
}

Parameters rounded(const Attributes& attributes) {
  return {{attributes.lambda.begin(), attributes.lambda.end()}, {attributes.kappa.begin(), attributes.kappa.end()}};
}

// The constants of a layer: in the launch's arguments where they fit, else uploaded.
cudaError_t fill(CudaKernel& kernel, int device) {
  const Parameters parameters = rounded(kernel.attributes);
  cudaError_t error = cudaDeviceGetAttribute(&kernel.job.processors, cudaDevAttrMultiProcessorCount, device);
  kernel.job.per_channel = parameters.channels() > 1;
  kernel.job.scalar = coefficients<float>(parameters.lambda_of(0), parameters.kappa_of(0));
  if (error != cudaSuccess || !kernel.job.per_channel) return error;
  int before = 0;
  error = cudaGetDevice(&before);
  if (error == cudaSuccess) error = cudaSetDevice(device);
  if (error != cudaSuccess) return error;
  error = kernel.table.hold(channels_of(parameters));
  kernel.job.channels = static_cast<const Channel*>(kernel.table.data());
  const cudaError_t back = cudaSetDevice(before);
  return error == cudaSuccess ? back : error;
}

OrtStatus* failed(const CudaKernel& kernel, const char* what, cudaError_t error) {
  const std::string text = kernel.name + " " + what + ". CUDA says: " + cudaGetErrorString(error);
  return kernel.api->CreateStatus(ORT_EP_FAIL, text.c_str());
}

OrtStatus* create(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** out) {
  const CudaOperator& o = *self(op);
  const Node node(api, info, name_of(o.kind));
  return guarded(api, [&] { return node.name(); }, [&]() -> OrtStatus* {
    std::unique_ptr<CudaKernel> kernel(new CudaKernel{api, node.name(), node.attributes(), {}, {}});
    const Attributes& attributes = kernel->attributes;
    attributes.check();
    if (attributes.block != 1) throw Refusal("a model prepared for the CPU; wanted the model that it was made of");
    const std::vector<int64_t> dims = node.input_shape(0);
    if (!dims.empty()) attributes.check_shape(dims.data(), dims.size());
    kernel->job.kind = o.kind;
    kernel->job.element = o.element;
    int device = 0;
    APA_TRY(find_device(api, o.version, info, &device));
    if (const cudaError_t error = fill(*kernel, device)) return failed(*kernel, "cannot be prepared", error);
    *out = kernel.release();
    return nullptr;
  });
}

OrtStatus* run(const CudaKernel& kernel, OrtKernelContext* context) {
  const OrtApi* api = kernel.api;
  const OrtValue* input = nullptr;
  OrtValue* output = nullptr;
  int64_t dims[kRank];
  size_t rank = 0;
  APA_TRY(api->KernelContext_GetInput(context, 0, &input));
  APA_TRY(read_shape(api, input, dims, &rank));
  kernel.attributes.check_shape(dims, rank);
  APA_TRY(api->KernelContext_GetOutput(context, 0, dims, rank, &output));
  void *x = nullptr, *y = nullptr, *stream = nullptr;
  APA_TRY(api->GetTensorMutableData(const_cast<OrtValue*>(input), &x));
  APA_TRY(api->GetTensorMutableData(output, &y));
  APA_TRY(api->KernelContext_GetGPUComputeStream(context, &stream));
  Job job = kernel.job;
  job.layout = linear_layout(dims, rank, kernel.attributes.axis_of(rank));
  const cudaError_t error = run(job, x, y, static_cast<cudaStream_t>(stream));
  return error == cudaSuccess ? nullptr : failed(kernel, "cannot be started", error);
}

OrtStatus* compute(void* data, OrtKernelContext* context) {
  const CudaKernel& kernel = *static_cast<const CudaKernel*>(data);
  return guarded(kernel.api, [&] { return kernel.name; }, [&] { return run(kernel, context); });
}

}  // namespace

CudaOperator::CudaOperator(const OrtApi* api_, uint32_t version_, const char* provider_, Kind kind_, Element element_)
    : Bound(api_, version_, provider_), kind(kind_), element(element_) {
  GetName = [](const OrtCustomOp* o) { return name_of(self(o)->kind); };
  GetInputType = [](const OrtCustomOp* o, size_t) { return type_of(self(o)->element); };
  GetOutputType = GetInputType;
  GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = [](void* kernel) { delete static_cast<CudaKernel*>(kernel); };
  output_like_input();
}

}  // namespace apa
