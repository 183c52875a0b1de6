#include "binding.h"

#include <cstdlib>

namespace apa {
namespace {

// Whether there are dimensions, and each has a size or a name. ONNX Runtime says rank 0 where it knows no shape; and it
// would take a dimension with neither size nor name for the size -1, share memory between values of different sizes,
// or abort where a Slice follows.
OrtStatus* all_known(const OrtApi* api, const OrtTensorTypeAndShapeInfo* info, bool* known) {
  size_t rank = 0;
  int64_t dims[kRank];
  const char* names[kRank];
  APA_TRY(api->GetDimensionsCount(info, &rank));
  *known = rank && rank <= kRank;
  if (!*known) return nullptr;
  APA_TRY(api->GetDimensions(info, dims, rank));
  APA_TRY(api->GetSymbolicDimensions(info, names, rank));
  for (size_t i = 0; i < rank; i++) *known = *known && (dims[i] >= 0 || names[i][0]);
  return nullptr;
}

OrtStatus* same_shape(const OrtCustomOp* op, OrtShapeInferContext* context) {
  const OrtApi* api = static_cast<const Bound*>(op)->api;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  bool known = false;
  APA_TRY(api->ShapeInferContext_GetInputTypeShape(context, 0, &info));
  APA_TRY(all_known(api, info, &known));
  return known ? api->ShapeInferContext_SetOutputTypeShape(context, 0, info) : nullptr;
}

// Output 0 may take the memory of input 0. ONNX Runtime asks for arrays that it hands back to be freed,
// and honours them only together with a shape function.
size_t in_place(int** input, int** output) {
  *input = static_cast<int*>(std::calloc(1, sizeof(int)));
  *output = static_cast<int*>(std::calloc(1, sizeof(int)));
  return *input && *output ? 1 : 0;
}

void release_in_place(int* input, int* output) {
  std::free(input);
  std::free(output);
}

}  // namespace

Bound::Bound(const OrtApi* api_, uint32_t version_, const char* provider_)
    : OrtCustomOp{}, api(api_), provider(provider_) {
  version = version_;
  GetExecutionProviderType = [](const OrtCustomOp* o) { return static_cast<const Bound*>(o)->provider; };
  GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return INPUT_OUTPUT_REQUIRED; };
  GetOutputCharacteristic = GetInputCharacteristic;
  GetInputMemoryType = [](const OrtCustomOp*, size_t) { return OrtMemTypeDefault; };
  GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  GetVariadicInputHomogeneity = GetVariadicInputMinArity;
  GetVariadicOutputMinArity = GetVariadicInputMinArity;
  GetVariadicOutputHomogeneity = GetVariadicInputMinArity;
  GetStartVersion = [](const OrtCustomOp*) { return 1; };
  GetEndVersion = GetStartVersion;
  GetAliasMap = [](int**, int**) -> size_t { return 0; };
  ReleaseAliasMap = [](int*, int*) {};
}

void Bound::output_like_input() {
  InferOutputShapeFn = same_shape;
  GetMayInplace = in_place;
  ReleaseMayInplace = release_in_place;
}

OrtStatus* read_shape(const OrtApi* api, const OrtValue* value, int64_t* dims, size_t* rank) {
  OrtTensorTypeAndShapeInfo* info = nullptr;
  APA_TRY(api->GetTensorTypeAndShape(value, &info));
  OrtStatus* status = api->GetDimensionsCount(info, rank);
  if (!status && *rank > kRank) status = api->CreateStatus(ORT_INVALID_ARGUMENT, "com.apa: rank above 64");
  if (!status) status = api->GetDimensions(info, dims, *rank);
  api->ReleaseTensorTypeAndShapeInfo(info);
  return status;
}

}  // namespace apa
