// Stands where TensorRT stands: makes fields, descriptions and expressions, asks creators for plugins, and
// reads what the plugin says on stderr.
#ifndef TRT_HARNESS_H
#define TRT_HARNESS_H

#define NV_INFER_INTERNAL_INCLUDE 1
#include <NvInferRuntime.h>
#undef NV_INFER_INTERNAL_INCLUDE

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count);
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder* finder);

namespace harness {

using namespace nvinfer1;

// A field that owns its data.
struct Field {
  std::string name;
  PluginFieldType type;
  std::vector<unsigned char> bytes;
  int32_t length;
};

template <class T>
Field field(const char* name, PluginFieldType type, const std::vector<T>& values) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(values.data());
  return {name, type, {bytes, bytes + values.size() * sizeof(T)}, static_cast<int32_t>(values.size())};
}
inline Field floats(const char* name, const std::vector<float>& v) {
  return field(name, PluginFieldType::kFLOAT32, v);
}
inline Field ints(const char* name, const std::vector<int32_t>& v) {
  return field(name, PluginFieldType::kINT32, v);
}

using Owned = std::unique_ptr<IPluginV3>;

inline IPluginCreatorV3One& creator(const std::string& name) {
  int32_t count = 0;
  IPluginCreatorInterface* const* all = getCreators(count);
  for (int32_t i = 0; i < count; i++) {
    auto* found = static_cast<IPluginCreatorV3One*>(all[i]);
    if (name == found->getPluginName()) return *found;
  }
  std::printf("no creator %s\n", name.c_str());
  std::exit(2);
}

// By `name`; without one by the creator of `kind`, or of its codes where there is a scale for them.
inline Owned created(const char* kind, const std::vector<Field>& fields, TensorRTPhase phase = TensorRTPhase::kBUILD,
                     std::string name = "") {
  std::vector<PluginField> bare;
  const auto is_scale = [](const Field& f) { return f.name == "scale_out"; };
  const bool codes = std::any_of(fields.begin(), fields.end(), is_scale);
  if (name.empty()) name = std::string(kind) + (codes ? "Codes" : "");
  for (const Field& f : fields) bare.push_back({f.name.c_str(), f.bytes.data(), f.type, f.length});
  const PluginFieldCollection collection{static_cast<int32_t>(bare.size()), bare.data()};
  return Owned(creator(name).createPlugin("layer 3", &collection, phase));
}

inline Owned scalar(const char* kind = "AGLU", float lambda = 0.5f, float kappa = 1.2f) {
  return created(kind, {floats("lambda", {lambda}), floats("kappa", {kappa})});
}

template <class Interface>
Interface& capability(IPluginV3& plugin, PluginCapabilityType type) {
  return *static_cast<Interface*>(plugin.getCapabilityInterface(type));
}
inline IPluginV3OneCore& core(IPluginV3& p) { return capability<IPluginV3OneCore>(p, PluginCapabilityType::kCORE); }
inline IPluginV3OneBuild& build(IPluginV3& p) {
  return capability<IPluginV3OneBuild>(p, PluginCapabilityType::kBUILD);
}
inline IPluginV3OneRuntime& runtime(IPluginV3& p) {
  return capability<IPluginV3OneRuntime>(p, PluginCapabilityType::kRUNTIME);
}

inline PluginTensorDesc tensor(const std::vector<int64_t>& dims, DataType type = DataType::kFLOAT,
                               TensorFormat format = TensorFormat::kLINEAR) {
  PluginTensorDesc desc{};
  desc.dims.nbDims = static_cast<int32_t>(dims.size());
  for (size_t i = 0; i < dims.size(); i++) desc.dims.d[i] = dims[i];
  desc.type = type;
  desc.format = format;
  desc.scale = -1.f;  // what TensorRT gives where there is none
  return desc;
}

inline DynamicPluginTensorDesc dynamic(const PluginTensorDesc& desc) {
  return {desc, desc.dims, desc.dims, desc.dims};
}

// A dimension and a builder of dimensions, as TensorRT hands them over.
struct Expression final : IDimensionExpr, private apiv::VDimensionExpr {
  Expression(int64_t value, bool constant) : value_(value), constant_(constant) { mImpl = this; }
  ~Expression() noexcept override = default;

 private:
  bool isConstant() const noexcept override { return constant_; }
  int64_t getConstantValue() const noexcept override { return value_; }
  bool isSizeTensor() const noexcept override { return false; }
  int64_t value_;
  bool constant_;
};

struct Builder final : IExprBuilder, private apiv::VExprBuilder {
  Builder() { mImpl = this; }
  ~Builder() noexcept override = default;
  int calls = 0;

 private:
  const IDimensionExpr* made() {
    calls++;
    return nullptr;
  }
  const IDimensionExpr* constant(int64_t) noexcept override { return made(); }
  const IDimensionExpr* operation(DimensionOperation, const IDimensionExpr&, const IDimensionExpr&) noexcept override {
    return made();
  }
  const IDimensionExpr* declareSizeTensor(int32_t, const IDimensionExpr&, const IDimensionExpr&) noexcept override {
    return made();
  }
};

// What is written to stderr while it lives.
class Said {
 public:
  Said() : before_(stderr), stream_(open_memstream(&text_, &size_)) { stderr = stream_; }
  ~Said() {
    text();
    std::free(text_);
  }
  std::string text() {
    if (stream_) {
      stderr = before_;
      std::fclose(stream_);
      stream_ = nullptr;
    }
    return text_;
  }
  bool has(const char* part) { return text().find(part) != std::string::npos; }

 private:
  char* text_ = nullptr;
  size_t size_ = 0;
  FILE *before_, *stream_;
};

}  // namespace harness

#endif  // TRT_HARNESS_H
