// The creators of the library that APA_TRT_LIBRARY names, opened as TensorRT's registry opens it.
#include <dlfcn.h>

#include "trt_harness.h"

extern "C" nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
  static void* const library = dlopen(std::getenv("APA_TRT_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    std::fprintf(stderr, "APA_TRT_LIBRARY: %s\n", dlerror());
    std::exit(2);
  }
  auto* const get = reinterpret_cast<decltype(&getCreators)>(dlsym(library, "getCreators"));
  return get(count);
}
