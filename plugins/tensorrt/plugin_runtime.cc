// What an execution context asks of the plugin. Everything that allocates happens in onShapeChange.
#include <cstdlib>
#include <cstring>
#include <exception>

#include "fields.h"
#include "formats.h"
#include "log.h"
#include "plugin.h"

namespace apa {
namespace {

using namespace nvinfer1;

// Read once, as the library is loaded. Off until a device has shown that it gains (docs/gpu.md).
const bool kDependentWanted = [] {
  const char* set = std::getenv("APA_DEPENDENT_LAUNCH");
  return set && std::strcmp(set, "1") == 0;
}();

// What a job knows of the device.
cudaError_t ask_device(Job& job) {
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess && kDependentWanted) error = can_depend(job.dependent);
  return error == cudaSuccess ? cudaDeviceGetAttribute(&job.processors, cudaDevAttrMultiProcessorCount, device) : error;
}

}  // namespace

Layout Plugin::layout(const PluginTensorDesc& tensor) const {
  const std::vector<int64_t> dims(tensor.dims.d, tensor.dims.d + tensor.dims.nbDims);
  if (dims.empty()) return linear_layout(nullptr, 0, 0);  // a scalar, whatever its format
  return layout_of(dims, *format_of(tensor.format), per_channel() ? axis(tensor.dims.nbDims) : 0);
}

// The constants a kernel reads: in its arguments where they fit, else in memory on the device. They depend on no
// shape, and TensorRT calls onShapeChange after every change of an address too: they are computed once.
cudaError_t Plugin::fill() {
  if (filled_) return cudaSuccess;
  job_.scalar = coefficients<float>(parameters_.lambda_of(0), parameters_.kappa_of(0));
  const cudaError_t error = per_channel() ? channels_.hold(channels_of(parameters_)) : cudaSuccess;
  job_.channels = static_cast<const Channel*>(channels_.data());
  filled_ = error == cudaSuccess;
  return error;
}

int32_t Plugin::prepare(const PluginTensorDesc& in, const PluginTensorDesc& out) {
  if (const int32_t bad = check(in, out)) return bad;
  job_.kind = kind_;
  job_.element = *element_of(in.type);
  job_.per_channel = per_channel();
  job_.layout = layout(in);
  cudaError_t error = job_.processors ? cudaSuccess : ask_device(job_);
  if (error == cudaSuccess) error = fill();
  prepared_ = error == cudaSuccess;
  if (!prepared_) complain(name(), layer_.c_str(), "cannot be prepared: %s", cudaGetErrorString(error));
  return error;
}

int32_t Plugin::onShapeChange(const PluginTensorDesc* in, int32_t inputs, const PluginTensorDesc* out,
                              int32_t outputs) noexcept {
  prepared_ = false;
  if (!in || !out || inputs != 1 || outputs != 1) return -1;
  try {
    return prepare(in[0], out[0]);
  } catch (const std::exception& error) {
    return complain(name(), layer_.c_str(), "cannot be prepared: %s", error.what());
  }
}

int32_t Plugin::enqueue(const PluginTensorDesc*, const PluginTensorDesc*, const void* const* sources,
                        void* const* targets, void*, cudaStream_t stream) noexcept {
  const char *name = this->name(), *layer = layer_.c_str();
  if (!prepared_) return complain(name, layer, "enqueue before onShapeChange");
  if (job_.layout.count == 0) return 0;
  if (!sources || !targets || !sources[0] || !targets[0]) return complain(name, layer, "enqueue without memory");
  const void* x = sources[0];
  void* y = targets[0];
  const cudaError_t error = codes() ? run(job_, parameters_.scale_out, x, y, stream) : run(job_, x, y, stream);
  if (error != cudaSuccess) complain(name, layer, "launch failed: %s", cudaGetErrorString(error));
  return error;
}

IPluginV3* Plugin::attachToContext(IPluginResourceContext*) noexcept { return clone(); }

const PluginFieldCollection* Plugin::getFieldsToSerialize() noexcept {
  try {
    fields_ = fields_of(parameters_);
  } catch (const std::exception& error) {
    complain(name(), layer_.c_str(), "cannot be serialised: %s", error.what());
    return nullptr;
  }
  collection_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
  return &collection_;
}

}  // namespace apa
