// The entry of the library that APA_ORT_LIBRARY names, opened as ONNX Runtime opens it.
#include <dlfcn.h>

#include <cstdio>
#include <cstdlib>

#include "ort_cuda_host.h"

extern "C" OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  static void* const library = dlopen(std::getenv("APA_ORT_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    std::fprintf(stderr, "APA_ORT_LIBRARY: %s\n", dlerror());
    std::exit(2);
  }
  return reinterpret_cast<decltype(&RegisterCustomOps)>(dlsym(library, "RegisterCustomOps"))(options, base);
}
