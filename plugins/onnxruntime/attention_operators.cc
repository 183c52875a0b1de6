#include "attention_operators.h"

#include <memory>
#include <optional>
#include <string>

#include "attention_kernels.h"
#include "flush.h"
#include "layer.h"
#include "node.h"

namespace apa {
namespace {

// Floats that pass from scaling to the unit: they stay in the first cache.
constexpr size_t kPiece = 2048;

const char* name_of(bool with_unit) { return with_unit ? "GatedAGLU" : "Gated"; }

struct Kernel {
  const OrtApi* api;
  std::string name;
  size_t block, channels;
  bool flush;  // results below 2^-126 become 0
  std::optional<Layer> layer;
};

struct Tensor {
  const float* data = nullptr;
  int64_t dims[kRank] = {};
  size_t rank = 0;
  bool is(std::initializer_list<int64_t> wanted) const {
    return rank == wanted.size() && std::equal(wanted.begin(), wanted.end(), dims);
  }
};

std::string text(const Tensor& t) {
  std::string s = "(";
  for (size_t i = 0; i < t.rank; i++) s += (i ? ", " : "") + std::to_string(t.dims[i]);
  return s + ")";
}

// Input `index`; `data` stays null where it is left out.
OrtStatus* read(const OrtApi* api, OrtKernelContext* context, size_t index, Tensor* to) {
  size_t count = 0;
  APA_TRY(api->KernelContext_GetInputCount(context, &count));
  const OrtValue* value = nullptr;
  if (index < count) APA_TRY(api->KernelContext_GetInput(context, index, &value));
  if (!value) return nullptr;
  APA_TRY(read_shape(api, value, to->dims, &to->rank));
  void* data = nullptr;
  APA_TRY(api->GetTensorMutableData(const_cast<OrtValue*>(value), &data));
  to->data = static_cast<const float*>(data);
  return nullptr;
}

Map map_of(const Kernel& kernel, const Tensor& x) {
  if (x.rank != 4) throw Refusal("x is " + text(x) + "; wanted (N, C, H, W)");
  const auto dim = [&](size_t i) { return static_cast<size_t>(x.dims[i]); };
  if (dim(1) % kernel.block != 0 || dim(1) < kernel.channels)
    throw Refusal("x is " + text(x) + "; wanted " + std::to_string(kernel.channels) + " channels in blocks of " +
                  std::to_string(kernel.block));
  return {dim(0), dim(1), dim(2) * dim(3), kernel.block};
}

Gates gates_of(const Kernel& kernel, const Tensor& x, const Tensor& channel, const Tensor& plane) {
  Gates gates;
  gates.channels = kernel.channels;
  const int64_t n = x.dims[0], c = static_cast<int64_t>(kernel.channels), h = x.dims[2], w = x.dims[3];
  if (channel.data) {
    if (!channel.is({n, c, 1, 1}) && !channel.is({1, c, 1, 1}))
      throw Refusal("the channel gate is " + text(channel) + "; wanted (N or 1, " + std::to_string(c) + ", 1, 1)");
    gates.channel = channel.data;
    gates.channel_stride = channel.dims[0] == n ? kernel.channels : 0;
  }
  if (plane.data) {
    if (!plane.is({n, 1, h, w}) && !plane.is({1, 1, h, w}))
      throw Refusal("the plane gate is " + text(plane) + "; wanted (N or 1, 1, H, W) for x " + text(x));
    gates.plane = plane.data;
    gates.plane_stride = plane.dims[0] == n ? static_cast<size_t>(h * w) : 0;
  }
  return gates;
}

struct Work {
  const Kernel* kernel;
  Map map;
  Gates gates;
  const float *x, *residual;
  float* y;
  Geometry elements, layer;
  Tasks tasks;

  void piece(size_t sample, const float* gate, size_t offset, size_t first, size_t count) const {
    const float* plane = gates.plane ? gates.plane + sample * gates.plane_stride + offset / map.lanes : nullptr;
    scale({x + first, gate, plane, residual ? residual + first : nullptr, y + first, count / map.lanes, map.lanes});
    if (kernel->layer) kernel->layer->run(y, y, layer, first, first + count);
  }

  void run(size_t begin, size_t end) const {
    alignas(64) float gate[kMostLanes];
    const FlushSubnormals flush(kernel->flush);
    elements.walk(begin, end, [&](size_t group, size_t offset, size_t first, size_t count) {
      const size_t sample = first / (map.channels * map.positions);
      gates.lanes_of(map, sample, group, gate);
      for (size_t done = 0; done < count; done += kPiece)
        piece(sample, gate, offset + done, first + done, std::min(kPiece, count - done));
    });
  }
};

void run_task(void* data, size_t task) {
  const Work& work = *static_cast<const Work*>(data);
  work.run(work.tasks.begin(task), work.tasks.end(task));
}

OrtStatus* parallel(OrtKernelContext* context, const OrtApi* api, void (*task)(void*, size_t), size_t tasks,
                    void* work) {
  if (tasks > 1) return api->KernelContext_ParallelFor(context, task, tasks, 0, work);
  if (tasks == 1) task(work, 0);
  return nullptr;
}

OrtStatus* output(const OrtApi* api, OrtKernelContext* context, const int64_t* dims, size_t rank, float** data) {
  OrtValue* value = nullptr;
  void* raw = nullptr;
  APA_TRY(api->KernelContext_GetOutput(context, 0, dims, rank, &value));
  APA_TRY(api->GetTensorMutableData(value, &raw));
  *data = static_cast<float*>(raw);
  return nullptr;
}

OrtStatus* run_gated(const Kernel& kernel, OrtKernelContext* context) {
  const OrtApi* api = kernel.api;
  Tensor x, channel, plane, residual;
  APA_TRY(read(api, context, 0, &x));
  APA_TRY(read(api, context, 1, &channel));
  APA_TRY(read(api, context, 2, &plane));
  APA_TRY(read(api, context, 3, &residual));
  const Map map = map_of(kernel, x);
  const Gates gates = gates_of(kernel, x, channel, plane);
  if (residual.data && !residual.is({x.dims[0], x.dims[1], x.dims[2], x.dims[3]}))
    throw Refusal("the residual is " + text(residual) + "; wanted x's shape, " + text(x));
  float* y = nullptr;
  APA_TRY(output(api, context, x.dims, 4, &y));
  Work work{&kernel, map, gates, x.data, residual.data, y, {map.groups(), map.span(), map.lanes, map.total()},
            {}, Tasks(map.total())};
  if (kernel.layer) {
    kernel.layer->check_shape(x.dims, 4);
    work.layer = kernel.layer->geometry_of(x.dims, 4);
  }
  return parallel(context, api, run_task, work.tasks.count, &work);
}

struct PoolWork {
  Map map;
  Gates gates;
  const float* x;
  float* y;
  size_t positions, tasks;  // positions a task, tasks a sample
};

void pool_task(void* data, size_t task) {
  const PoolWork& w = *static_cast<const PoolWork*>(data);
  const size_t sample = task / w.tasks, begin = task % w.tasks * w.positions;
  pool_channels(w.x, w.map, w.gates, sample, begin, std::min(w.map.positions, begin + w.positions),
                w.y + sample * 2 * w.map.positions);
}

OrtStatus* run_pool(const Kernel& kernel, OrtKernelContext* context) {
  const OrtApi* api = kernel.api;
  Tensor x, channel;
  APA_TRY(read(api, context, 0, &x));
  APA_TRY(read(api, context, 1, &channel));
  const Map map = map_of(kernel, x);
  PoolWork work{map, gates_of(kernel, x, channel, {}), x.data, nullptr, kPooled / map.lanes, 0};
  work.tasks = (map.positions + work.positions - 1) / work.positions;
  const int64_t dims[4] = {x.dims[0], 2, x.dims[2], x.dims[3]};
  APA_TRY(output(api, context, dims, 4, &work.y));
  return parallel(context, api, pool_task, work.tasks * map.samples, &work);
}

template <OrtStatus* (*kRun)(const Kernel&, OrtKernelContext*)>
OrtStatus* compute(void* data, OrtKernelContext* context) {
  const Kernel& kernel = *static_cast<const Kernel*>(data);
  return guarded(kernel.api, [&] { return kernel.name; }, [&] { return kRun(kernel, context); });
}

OrtStatus* create(const OrtApi* api, const OrtKernelInfo* info, const char* name, const Choice& choice, bool with_unit,
                  void** out) {
  const Node node(api, info, name);
  return guarded(api, [&] { return node.name(); }, [&]() -> OrtStatus* {
    const int64_t block = node.integer("block", 1), channels = node.integer("channels", 0);
    if (block != 1 && block != 8 && block != 16)
      throw Refusal("block is " + std::to_string(block) + "; wanted 1, 8 or 16");
    if (channels < 1) throw Refusal("channels is " + std::to_string(channels) + "; wanted 1 or more");
    auto kernel = std::make_unique<Kernel>(
        Kernel{api, node.name(), static_cast<size_t>(block), static_cast<size_t>(channels), flushes(choice), {}});
    if (with_unit) kernel->layer.emplace(Kind::Unit, Element::Float32, node.attributes(), choice);
    *out = kernel.release();
    return nullptr;
  });
}

void describe(OrtCustomOp& op) {
  op.GetInputType = [](const OrtCustomOp*, size_t) { return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT; };
  op.GetOutputType = op.GetInputType;
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t i) {
    return i == 0 ? INPUT_OUTPUT_REQUIRED : INPUT_OUTPUT_OPTIONAL;
  };
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
}

const GatedOperator& self(const OrtCustomOp* op) { return *static_cast<const GatedOperator*>(op); }

}  // namespace

GatedOperator::GatedOperator(const OrtApi* api_, uint32_t version_, bool unit, const Choice& choice_)
    : Bound(api_, version_), with_unit(unit), choice(choice_) {
  describe(*this);
  GetName = [](const OrtCustomOp* op) { return name_of(self(op).with_unit); };
  GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 4; };
  CreateKernelV2 = [](const OrtCustomOp* op, const OrtApi* a, const OrtKernelInfo* info, void** out) {
    const GatedOperator& o = self(op);
    return create(a, info, name_of(o.with_unit), o.choice, o.with_unit, out);
  };
  KernelComputeV2 = compute<run_gated>;
  output_like_input();
}

ChannelPoolOperator::ChannelPoolOperator(const OrtApi* api_, uint32_t version_) : Bound(api_, version_) {
  describe(*this);
  GetName = [](const OrtCustomOp*) { return "ChannelPool"; };
  GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 2; };
  CreateKernelV2 = [](const OrtCustomOp*, const OrtApi* a, const OrtKernelInfo* info, void** out) {
    return create(a, info, "ChannelPool", {}, false, out);
  };
  KernelComputeV2 = compute<run_pool>;
}

}  // namespace apa
