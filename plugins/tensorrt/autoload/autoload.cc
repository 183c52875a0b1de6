// libapa_trt_autoload.so: opening it is enough. For hosts that only open a library and leave the rest to it: Triton's
// --backend-config=tensorrt,plugins=, trtexec --staticPlugins, polygraphy --plugins.
//
// It asks the TensorRT of this process to load libapa_trt.so from its own folder. That library cannot do so itself: a
// registry refuses a library whose creators are registered already, as they would be when loadLibrary opens it.
#include <dlfcn.h>
#include <link.h>

#include <cstdio>
#include <cstring>
#include <string>

namespace {

constexpr char kPlugin[] = "libapa_trt.so";

void complain(const std::string& what) { std::fprintf(stderr, "apa-deploy: %s is not loaded: %s\n", kPlugin, what.c_str()); }

// The path of the TensorRT runtime in this process, in whatever scope it was opened; empty where there is none.
std::string runtime_path() {
  std::string path;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* found) {
        const char* slash = std::strrchr(info->dlpi_name, '/');
        const std::string name(slash ? slash + 1 : info->dlpi_name);
        for (const char* runtime : {"libnvinfer.so", "libnvinfer_lean.so", "libnvinfer_dispatch.so"})
          if (name.rfind(runtime, 0) == 0) *static_cast<std::string*>(found) = info->dlpi_name;
        return 0;
      },
      &path);
  return path;
}

std::string folder_of_this_library() {
  Dl_info info{};
  dladdr(reinterpret_cast<void*>(&folder_of_this_library), &info);
  const std::string path(info.dli_fname ? info.dli_fname : "");
  return path.substr(0, path.rfind('/') + 1);
}

// IPluginRegistry::loadLibrary's place in the table of virtual functions: TensorRT 11 dropped four that came first.
// Headers fit one version only, and this library is to serve both.
int load_library_slot(int major) { return major == 10 ? 10 : major == 11 ? 6 : -1; }

template <class Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

__attribute__((constructor)) void load_plugin() {
  const std::string path = runtime_path(), plugin = folder_of_this_library() + kPlugin;
  if (path.empty()) return complain("no TensorRT in this process yet; open this library later, or call loadLibrary");
  void* runtime = dlopen(path.c_str(), RTLD_LAZY | RTLD_NOLOAD);
  const auto version = symbol<int (*)()>(runtime, "getInferLibVersion");
  const auto registry_of = symbol<void* (*)()>(runtime, "getPluginRegistry");
  if (!version || !registry_of) return complain(path + " has no plugin registry");
  const int slot = load_library_slot(version() / 10000);
  if (slot < 0) return complain("TensorRT " + std::to_string(version()) + "; wanted 10 or 11. Call loadLibrary.");
  void* registry = registry_of();
  using Load = void* (*)(void*, const char*);
  if (!registry || !(*static_cast<Load**>(registry))[slot](registry, plugin.c_str()))
    complain("TensorRT refused " + plugin + "; its log says why");
}

}  // namespace
