// A plugin library that stands before another: forwards to its creators and writes down, for every plugin
// that the other made, the fields that the plugin would keep in an engine. So a test sees what a parser gave.
//
// SPIED: the other library. SPY_LOG: the file, a line a plugin: "NAME LAYER field=v,v field=v".
#include <NvInferRuntime.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

namespace {

using namespace nvinfer1;

void write_values(FILE* log, const PluginField& field) {
  std::fprintf(log, " %s=", field.name);
  for (int32_t i = 0; i < field.length; i++) {
    const double value = field.type == PluginFieldType::kINT32 ? static_cast<const int32_t*>(field.data)[i]
                                                               : static_cast<const float*>(field.data)[i];
    std::fprintf(log, "%s%.9g", i ? "," : "", value);
  }
}

void write_down(const char* kind, const char* layer, IPluginV3* plugin) {
  FILE* log = std::fopen(std::getenv("SPY_LOG"), "a");
  std::fprintf(log, "%s %s", kind, layer);
  if (plugin) {
    auto* runtime =
        static_cast<IPluginV3OneRuntime*>(plugin->getCapabilityInterface(PluginCapabilityType::kRUNTIME));
    const PluginFieldCollection* kept = runtime->getFieldsToSerialize();
    for (int32_t i = 0; i < kept->nbFields; i++) write_values(log, kept->fields[i]);
  } else {
    std::fprintf(log, " refused");
  }
  std::fprintf(log, "\n");
  std::fclose(log);
}

class Spy final : public IPluginCreatorV3One {
 public:
  explicit Spy(IPluginCreatorInterface* spied) : spied_(*static_cast<IPluginCreatorV3One*>(spied)) {}
  IPluginV3* createPlugin(const char* name, const PluginFieldCollection* fields,
                          TensorRTPhase phase) noexcept override {
    IPluginV3* plugin = spied_.createPlugin(name, fields, phase);
    write_down(spied_.getPluginName(), name, plugin);
    return plugin;
  }
  const PluginFieldCollection* getFieldNames() noexcept override { return spied_.getFieldNames(); }
  const char* getPluginName() const noexcept override { return spied_.getPluginName(); }
  const char* getPluginVersion() const noexcept override { return spied_.getPluginVersion(); }
  const char* getPluginNamespace() const noexcept override { return spied_.getPluginNamespace(); }

 private:
  IPluginCreatorV3One& spied_;
};

IPluginCreatorInterface* const* spied_creators(int32_t& count) {
  void* library = dlopen(std::getenv("SPIED"), RTLD_NOW | RTLD_LOCAL);
  auto* get = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(dlsym(library, "getCreators"));
  return get(count);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) void setLoggerFinder(ILoggerFinder*) {}

extern "C" __attribute__((visibility("default"))) IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static IPluginCreatorInterface* const* spied = spied_creators(count);
  static Spy spies[] = {Spy(spied[0]), Spy(spied[1]), Spy(spied[2]), Spy(spied[3])};
  static IPluginCreatorInterface* const creators[] = {&spies[0], &spies[1], &spies[2], &spies[3]};
  count = 4;
  return creators;
}
