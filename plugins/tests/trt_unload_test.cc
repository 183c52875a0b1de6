// Loads a plugin library, makes a plugin, lets go of it, again and again: it leaves memory each time.
#include <dlfcn.h>

#include "trt_check.h"
#include "trt_harness.h"

using namespace harness;

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  for (int round = 0; round < 5; round++) {
    void* library = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    if (!check::expect(library != nullptr, "%s", dlerror())) break;
    auto* get = reinterpret_cast<IPluginCreatorInterface* const* (*)(int32_t&)>(dlsym(library, "getCreators"));
    int32_t count = 0;
    auto* creator = static_cast<IPluginCreatorV3One*>(get(count)[0]);
    const float one = 1;
    const PluginField fields[] = {{"lambda", &one, PluginFieldType::kFLOAT32, 1},
                                  {"kappa", &one, PluginFieldType::kFLOAT32, 1}};
    const PluginFieldCollection collection{2, fields};
    Owned plugin(creator->createPlugin("p", &collection, TensorRTPhase::kRUNTIME));
    check::expect(plugin != nullptr, "no plugin");
    plugin.reset();
    check::expect(dlclose(library) == 0, "dlclose");
    check::expect(dlopen(argv[1], RTLD_NOW | RTLD_NOLOAD) == nullptr, "round %d: still in memory", round);
  }
  std::printf("%d checks, %d failures\n", check::checks, check::failures);
  return check::failures > 0;
}
