#include "operators.h"

#include <memory>

#include "node.h"

namespace apa {
namespace {

const char* name_of(Kind kind) { return kind == Kind::Gate ? "APA" : "AGLU"; }

const Operator* self(const OrtCustomOp* op) { return static_cast<const Operator*>(op); }

ONNXTensorElementDataType type_of(Element element) {
  switch (element) {
    case Element::Float16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16;
    case Element::Bfloat16: return ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
    case Element::Float64: return ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE;
    case Element::Float32: break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
}

struct Kernel {
  const OrtApi* api;
  std::string name;
  Layer layer;
};

struct Work {
  const Kernel* kernel;
  const void* x;
  void* y;
  Geometry geometry;
  Tasks tasks;
};

void run_task(void* data, size_t task) {
  const Work& work = *static_cast<const Work*>(data);
  work.kernel->layer.run(work.x, work.y, work.geometry, work.tasks.begin(task), work.tasks.end(task));
}

OrtStatus* create(const OrtCustomOp* op, const OrtApi* api, const OrtKernelInfo* info, void** out) {
  const Operator& o = *self(op);
  const Node node(api, info, name_of(o.kind));
  return guarded(api, [&] { return node.name(); }, [&]() -> OrtStatus* {
    auto kernel = std::make_unique<Kernel>(
        Kernel{api, node.name(), Layer(o.kind, o.element, node.attributes(), o.choice)});
    const std::vector<int64_t> dims = node.input_shape(0);
    if (!dims.empty()) kernel->layer.check_shape(dims.data(), dims.size());
    *out = kernel.release();
    return nullptr;
  });
}

OrtStatus* run(const Kernel& kernel, OrtKernelContext* context) {
  const OrtApi* api = kernel.api;
  const OrtValue* input = nullptr;
  OrtValue* output = nullptr;
  int64_t dims[kRank];
  size_t rank = 0;
  APA_TRY(api->KernelContext_GetInput(context, 0, &input));
  APA_TRY(read_shape(api, input, dims, &rank));
  kernel.layer.check_shape(dims, rank);
  APA_TRY(api->KernelContext_GetOutput(context, 0, dims, rank, &output));
  void *x = nullptr, *y = nullptr;
  APA_TRY(api->GetTensorMutableData(const_cast<OrtValue*>(input), &x));
  APA_TRY(api->GetTensorMutableData(output, &y));
  const Geometry geometry = kernel.layer.geometry_of(dims, rank);
  Work work{&kernel, x, y, geometry, Tasks(geometry.total)};
  if (work.tasks.count > 1) return api->KernelContext_ParallelFor(context, run_task, work.tasks.count, 0, &work);
  if (work.tasks.count == 1) run_task(&work, 0);
  return nullptr;
}

OrtStatus* compute(void* data, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(data);
  return guarded(kernel.api, [&] { return kernel.name; }, [&] { return run(kernel, context); });
}

void describe(OrtCustomOp& op) {
  op.GetName = [](const OrtCustomOp* o) { return name_of(self(o)->kind); };
  op.GetInputType = [](const OrtCustomOp* o, size_t) { return type_of(self(o)->element); };
  op.GetOutputType = op.GetInputType;
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
}

}  // namespace

Operator::Operator(const OrtApi* api_, uint32_t version_, Kind kind_, Element element_, const Choice& choice_)
    : Bound(api_, version_), kind(kind_), element(element_), choice(choice_) {
  describe(*this);
  CreateKernelV2 = create;
  KernelComputeV2 = compute;
  KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  output_like_input();
}

}  // namespace apa
