// The core of the plugin and what the builder asks of it.
#include "plugin.h"

#include <algorithm>
#include <cstdio>
#include <utility>

#include "fields.h"
#include "formats.h"
#include "log.h"

namespace apa {
namespace {

using namespace nvinfer1;

// "0.5", or "[0.1 .. 0.9; 64]": smallest, largest, how many.
std::string summary(const std::vector<float>& values) {
  char text[96];
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  if (values.size() == 1) {
    std::snprintf(text, sizeof text, "%.9g", static_cast<double>(values[0]));
  } else {
    std::snprintf(text, sizeof text, "[%.9g .. %.9g; %zu]", static_cast<double>(*least),
                  static_cast<double>(*most), values.size());
  }
  return text;
}

std::string metadata(const Parameters& p) {
  const std::string axis = p.channels() > 1 ? " axis=" + std::to_string(p.axis) : "";
  const std::string codes = p.scale_out > 0 ? " scale_out=" + summary({p.scale_out}) : "";
  return "lambda=" + summary(p.lambda) + " kappa=" + summary(p.kappa) + axis + codes;
}

// Layers that run the same kernel on the same tensor take the same time, whatever their parameters' values.
std::string timing_id(Kind kind, const Parameters& p) {
  const bool small = coefficients<float>(p.lambda[0], p.kappa[0]).regime == Regime::Small;
  const std::string which = p.channels() > 1 ? std::to_string(p.channels()) + "@" + std::to_string(p.axis)
                                             : std::string(small ? "small" : "large");
  return std::string("apa.") + kVersion + "." + name_of(kind, p.scale_out > 0) + "." + which;
}

}  // namespace

Plugin::Plugin(Kind kind, Parameters parameters, std::string layer)
    : kind_(kind),
      parameters_(std::move(parameters)),
      layer_(std::move(layer)),
      timing_id_(timing_id(kind_, parameters_)),
      metadata_(metadata(parameters_)) {}

IPluginCapability* Plugin::getCapabilityInterface(PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCORE: return static_cast<IPluginV3OneCore*>(this);
    case PluginCapabilityType::kBUILD: return static_cast<IPluginV3OneBuild*>(this);
    case PluginCapabilityType::kRUNTIME: return static_cast<IPluginV3OneRuntime*>(this);
    default: return nullptr;
  }
}

IPluginV3* Plugin::clone() noexcept {
  try {
    return new Plugin(kind_, parameters_, layer_);
  } catch (const std::exception& error) {
    complain(name(), layer_.c_str(), "cannot be cloned: %s", error.what());
    return nullptr;
  }
}

int32_t Plugin::getOutputDataTypes(DataType* out, int32_t outputs, const DataType* in,
                                   int32_t inputs) const noexcept {
  if (!out || !in || outputs != 1 || inputs != 1) return -1;
  out[0] = type_out(in[0]);
  return 0;
}

int32_t Plugin::getOutputShapes(const DimsExprs* in, int32_t inputs, const DimsExprs*, int32_t, DimsExprs* out,
                                int32_t outputs, IExprBuilder&) noexcept {
  if (!out || !in || outputs != 1 || inputs != 1) return -1;
  out[0] = in[0];
  return 0;
}

bool Plugin::supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors, int32_t inputs,
                                       int32_t outputs) noexcept {
  if (!tensors || inputs != 1 || outputs != 1 || position < 0 || position > 1) return false;
  const PluginTensorDesc& tensor = tensors[position].desc;
  if (position == 1) return agrees(tensors[0].desc, tensor);
  const auto format = format_of(tensor.format);
  return format && element_of(tensor.type) && tensor.dims.nbDims >= format->from_end;
}

bool Plugin::agrees(const PluginTensorDesc& in, const PluginTensorDesc& out) const {
  return out.type == type_out(in.type) && out.format == in.format;
}

int32_t Plugin::configurePlugin(const DynamicPluginTensorDesc* in, int32_t inputs,
                                const DynamicPluginTensorDesc* out, int32_t outputs) noexcept {
  if (!in || !out || inputs != 1 || outputs != 1) return -1;
  return check(in[0].desc, out[0].desc);
}

int32_t Plugin::check(const PluginTensorDesc& in, const PluginTensorDesc& out) const {
  const char *name = this->name(), *layer = layer_.c_str();
  const auto format = format_of(in.format);
  if (!agrees(in, out)) {
    return complain(name, layer, "output of type %d in format %d; wanted type %d in the input's format, %d",
                    static_cast<int>(out.type), static_cast<int>(out.format), static_cast<int>(type_out(in.type)),
                    static_cast<int>(in.format));
  }
  if (!element_of(in.type) || !format || in.dims.nbDims < format->from_end) {
    return complain(name, layer, "type %d in format %d with %d dimensions is not supported",
                    static_cast<int>(in.type), static_cast<int>(in.format), in.dims.nbDims);
  }
  return check_channels(in.dims);
}

int32_t Plugin::check_channels(const Dims& dims) const {
  if (!per_channel()) return 0;
  const char *name = this->name(), *layer = layer_.c_str();
  const int32_t along = axis(dims.nbDims);
  if (along < 0 || along >= dims.nbDims) {
    return complain(name, layer, "axis %d is not one of a tensor of %d dimensions", parameters_.axis, dims.nbDims);
  }
  const int64_t channels = static_cast<int64_t>(parameters_.channels());
  if (dims.d[along] == channels || dims.d[along] == -1) return 0;  // -1: known when the engine runs
  return complain(name, layer, "%lld parameters for the %lld channels along axis %d",
                  static_cast<long long>(channels), static_cast<long long>(dims.d[along]), parameters_.axis);
}

}  // namespace apa
