// The TensorRT plugin: one activation layer.
#ifndef APA_TENSORRT_PLUGIN_H
#define APA_TENSORRT_PLUGIN_H

#include <NvInferRuntime.h>

#include <string>
#include <vector>

#include "activation.h"
#include "device_memory.h"
#include "kernels.h"

namespace apa {

constexpr const char* kVersion = "1";
constexpr const char* kNamespace = "apa";

// `codes`: of the plugin that gives int8. A name of its own, not a further version: a registry that lets a library go
// forgets but one version of a name (seen in TensorRT for RTX 1.7).
inline const char* name_of(Kind kind, bool codes) {
  if (codes) return kind == Kind::Gate ? "APACodes" : "AGLUCodes";
  return kind == Kind::Gate ? "APA" : "AGLU";
}

class Plugin final : public nvinfer1::IPluginV3,
                     public nvinfer1::IPluginV3OneCore,
                     public nvinfer1::IPluginV3OneBuild,
                     public nvinfer1::IPluginV3OneRuntime {
 public:
  Plugin(Kind kind, Parameters parameters, std::string layer);

  // IPluginV3
  nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
  nvinfer1::IPluginV3* clone() noexcept override;

  // IPluginV3OneCore
  const char* getPluginName() const noexcept override { return name(); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

  // IPluginV3OneBuild
  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t configurePlugin(const nvinfer1::DynamicPluginTensorDesc* in, int32_t inputs,
                          const nvinfer1::DynamicPluginTensorDesc* out, int32_t outputs) noexcept override;
  int32_t getOutputDataTypes(nvinfer1::DataType* out, int32_t outputs, const nvinfer1::DataType* in,
                             int32_t inputs) const noexcept override;
  int32_t getOutputShapes(const nvinfer1::DimsExprs* in, int32_t inputs, const nvinfer1::DimsExprs* shapes,
                          int32_t shape_inputs, nvinfer1::DimsExprs* out, int32_t outputs,
                          nvinfer1::IExprBuilder& builder) noexcept override;
  bool supportsFormatCombination(int32_t position, const nvinfer1::DynamicPluginTensorDesc* tensors,
                                 int32_t inputs, int32_t outputs) noexcept override;
  const char* getTimingCacheID() noexcept override { return timing_id_.c_str(); }
  const char* getMetadataString() noexcept override { return metadata_.c_str(); }

  // IPluginV3OneRuntime
  int32_t onShapeChange(const nvinfer1::PluginTensorDesc* in, int32_t inputs,
                        const nvinfer1::PluginTensorDesc* out, int32_t outputs) noexcept override;
  int32_t enqueue(const nvinfer1::PluginTensorDesc* in, const nvinfer1::PluginTensorDesc* out,
                  const void* const* sources, void* const* targets, void* workspace,
                  cudaStream_t stream) noexcept override;
  nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext* context) noexcept override;
  const nvinfer1::PluginFieldCollection* getFieldsToSerialize() noexcept override;

 private:
  bool per_channel() const { return parameters_.channels() > 1; }
  bool codes() const { return parameters_.scale_out > 0; }
  const char* name() const { return name_of(kind_, codes()); }
  nvinfer1::DataType type_out(nvinfer1::DataType in) const { return codes() ? nvinfer1::DataType::kINT8 : in; }
  int32_t axis(int32_t rank) const { return parameters_.axis + (parameters_.axis < 0 ? rank : 0); }
  bool agrees(const nvinfer1::PluginTensorDesc& in, const nvinfer1::PluginTensorDesc& out) const;
  int32_t check(const nvinfer1::PluginTensorDesc& in, const nvinfer1::PluginTensorDesc& out) const;
  int32_t check_channels(const nvinfer1::Dims& dims) const;
  Layout layout(const nvinfer1::PluginTensorDesc& tensor) const;
  int32_t prepare(const nvinfer1::PluginTensorDesc& in, const nvinfer1::PluginTensorDesc& out);
  cudaError_t fill();

  const Kind kind_;
  const Parameters parameters_;
  const std::string layer_, timing_id_, metadata_;
  std::vector<nvinfer1::PluginField> fields_;
  nvinfer1::PluginFieldCollection collection_{};
  DeviceMemory channels_;
  Job job_{};
  bool filled_ = false, prepared_ = false;
};

}  // namespace apa

#endif  // APA_TENSORRT_PLUGIN_H
