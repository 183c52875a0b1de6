// What TensorRT looks up in the library: the creators. Nothing throws across this boundary.
#include <exception>

#include "fields.h"
#include "log.h"
#include "plugin.h"

namespace apa {
namespace {

using namespace nvinfer1;

class Creator final : public IPluginCreatorV3One {
 public:
  Creator(Kind kind, bool codes) : kind_(kind), codes_(codes) {}

  IPluginV3* createPlugin(const char* name, const PluginFieldCollection* fields,
                          TensorRTPhase) noexcept override {
    try {
      return new Plugin(kind_, parameters_of(fields, codes_), name ? name : "");
    } catch (const std::exception& error) {
      complain(name_of(kind_, codes_), name, "%s", error.what());
      return nullptr;
    }
  }
  const PluginFieldCollection* getFieldNames() noexcept override { return &announced_fields(codes_); }
  const char* getPluginName() const noexcept override { return name_of(kind_, codes_); }
  const char* getPluginVersion() const noexcept override { return kVersion; }
  const char* getPluginNamespace() const noexcept override { return kNamespace; }

 private:
  const Kind kind_;
  const bool codes_;
};

}  // namespace
}  // namespace apa

// Required by TensorRT's loader. What it hands over is not used: see log.h.
extern "C" void setLoggerFinder(nvinfer1::ILoggerFinder*) {}

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  using apa::Creator, apa::Kind;
  static Creator unit(Kind::Unit, false), gate(Kind::Gate, false), unit_codes(Kind::Unit, true), gate_codes(Kind::Gate, true);
  static nvinfer1::IPluginCreatorInterface* const creators[] = {&unit, &gate, &unit_codes, &gate_codes};
  count = 4;
  return creators;
}
