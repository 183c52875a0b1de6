// A library of somebody else's: their.own::Twice, y = x + x in float32, by ONNX Runtime's C API.
#include <onnxruntime_c_api.h>

namespace {

const OrtApi* api;

void* create(const OrtCustomOp*, const OrtApi*, const OrtKernelInfo*) { return nullptr; }

// What cannot fail here: a test that sees wrong numbers says enough.
void check(OrtStatus* status) {
  if (status) api->ReleaseStatus(status);
}

void compute(void*, OrtKernelContext* context) {
  const OrtValue* input = nullptr;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  size_t rank = 0, count = 0;
  int64_t dims[8] = {};
  OrtValue* output = nullptr;
  void *x = nullptr, *y = nullptr;
  check(api->KernelContext_GetInput(context, 0, &input));
  check(api->GetTensorTypeAndShape(input, &info));
  check(api->GetDimensionsCount(info, &rank));
  check(api->GetDimensions(info, dims, rank));
  check(api->GetTensorShapeElementCount(info, &count));
  api->ReleaseTensorTypeAndShapeInfo(info);
  check(api->KernelContext_GetOutput(context, 0, dims, rank, &output));
  check(api->GetTensorMutableData(const_cast<OrtValue*>(input), &x));
  check(api->GetTensorMutableData(output, &y));
  for (size_t i = 0; i < count; i++) static_cast<float*>(y)[i] = 2 * static_cast<const float*>(x)[i];
}

ONNXTensorElementDataType type(const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; }
size_t one(const OrtCustomOp*) { return 1; }
OrtCustomOpInputOutputCharacteristic required(const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; }

}  // namespace

extern "C" OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  api = base->GetApi(17);
  static OrtCustomOp twice{};
  twice.version = 17;
  twice.CreateKernel = create;
  twice.GetName = [](const OrtCustomOp*) { return "Twice"; };
  twice.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  twice.GetInputType = twice.GetOutputType = type;
  twice.GetInputTypeCount = twice.GetOutputTypeCount = one;
  twice.GetInputCharacteristic = twice.GetOutputCharacteristic = required;
  twice.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  twice.KernelCompute = compute;
  twice.KernelDestroy = [](void*) {};
  OrtCustomOpDomain* domain = nullptr;
  if (OrtStatus* status = api->CreateCustomOpDomain("their.own", &domain)) return status;
  if (OrtStatus* status = api->CustomOpDomain_Add(domain, &twice)) return status;
  return api->AddCustomOpDomain(options, domain);
}
