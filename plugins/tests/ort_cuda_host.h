// Stands where ONNX Runtime stands around one node on CUDA: hands over what ONNX Runtime hands over, and withholds the
// rest. A tensor's memory can be touched while a kernel runs alone; an API function that is not set here ends the
// program.
#ifndef ORT_CUDA_HOST_H
#define ORT_CUDA_HOST_H

#include <onnxruntime_c_api.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <vector>

extern "C" OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);

struct OrtStatus {
  OrtErrorCode code;
  std::string text;
};
struct OrtCustomOpDomain {
  std::string name;
  std::vector<const OrtCustomOp*> operators;
};
struct OrtSessionOptions {
  std::map<std::string, std::string> entries;
  std::vector<OrtCustomOpDomain*> domains;
};
struct OrtMemoryInfo {
  int device;
};
struct OrtTensorTypeAndShapeInfo {
  std::vector<int64_t> dims;
};
struct OrtTypeInfo {
  OrtTensorTypeAndShapeInfo tensor;
};
struct OrtKernelInfo {
  std::map<std::string, std::vector<float>> floats;
  std::map<std::string, int64_t> integers;
  std::vector<int64_t> shape;  // as the model states it
  OrtMemoryInfo memory{0};
};
struct OrtValue {
  OrtTensorTypeAndShapeInfo info;
  void* data;
};
struct OrtKernelContext {
  OrtValue input, output;
  void* stream;
};

namespace host {

// What was handed out and not given back.
inline std::atomic<int> statuses{0}, types{0}, shapes{0}, allocators{0};
inline const char* version = "1.21.0";

// A tensor's memory. The host may touch it where it says so, as after a copy.
class DeviceMemory {
 public:
  explicit DeviceMemory(size_t bytes) : size_((bytes / kPage + 1) * kPage) {
    data_ = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    all.push_back(this);
  }
  ~DeviceMemory() {
    munmap(data_, size_);
    all.erase(std::find(all.begin(), all.end(), this));
  }
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;
  void* data() const { return data_; }
  // Lets `touch` read and write it.
  template <class T, class Touch>
  void copied(Touch touch) {
    mprotect(data_, size_, PROT_READ | PROT_WRITE);
    touch(static_cast<T*>(data_));
    mprotect(data_, size_, PROT_NONE);
  }
  static void open(bool opened) {  // to kernels
    for (DeviceMemory* one : all) mprotect(one->data_, one->size_, opened ? PROT_READ | PROT_WRITE : PROT_NONE);
  }

 private:
  static constexpr size_t kPage = 4096;
  static inline std::vector<DeviceMemory*> all;
  size_t size_;
  void* data_;
};

inline OrtStatus* status(OrtErrorCode code, const char* text) {
  statuses++;
  return new OrtStatus{code, text};
}

inline OrtStatus* text(const std::string& from, char* to, size_t* size) {
  const size_t room = *size;
  *size = from.size() + 1;
  if (!to) return nullptr;
  if (room < *size) return status(ORT_INVALID_ARGUMENT, "too small");
  std::copy(from.c_str(), from.c_str() + *size, to);
  return nullptr;
}

inline OrtApi made_api(bool newest) {
  OrtApi a{};  // what the operators have no business with stays null
  a.CreateStatus = [](OrtErrorCode code, const char* text) noexcept -> OrtStatus* { return status(code, text); };
  a.ReleaseStatus = [](OrtStatus* one) noexcept { statuses -= one != nullptr, delete one; };
  a.CreateCustomOpDomain = [](const char* name, OrtCustomOpDomain** out) noexcept -> OrtStatus* {
    return *out = new OrtCustomOpDomain{name, {}}, nullptr;
  };
  a.CustomOpDomain_Add = [](OrtCustomOpDomain* domain, const OrtCustomOp* op) noexcept -> OrtStatus* {
    return domain->operators.push_back(op), nullptr;
  };
  a.AddCustomOpDomain = [](OrtSessionOptions* options, OrtCustomOpDomain* domain) noexcept -> OrtStatus* {
    return options->domains.push_back(domain), nullptr;
  };
  a.HasSessionConfigEntry = [](const OrtSessionOptions* options, const char* key, int* out) noexcept -> OrtStatus* {
    return *out = static_cast<int>(options->entries.count(key)), nullptr;
  };
  a.GetSessionConfigEntry = [](const OrtSessionOptions* options, const char* key, char* to, size_t* size) noexcept
      -> OrtStatus* { return text(options->entries.at(key), to, size); };
  a.AddSessionConfigEntry = [](OrtSessionOptions* options, const char* key, const char* value) noexcept -> OrtStatus* {
    return options->entries[key] = value, nullptr;
  };
  a.KernelInfoGetAttributeArray_float = [](const OrtKernelInfo* info, const char* name, float* out, size_t* size) noexcept
      -> OrtStatus* {
    const auto known = info->floats.find(name);
    if (known == info->floats.end()) return status(ORT_FAIL, "no such attribute");
    *size = known->second.size();
    if (out) std::copy(known->second.begin(), known->second.end(), out);
    return nullptr;
  };
  a.KernelInfoGetAttribute_int64 = [](const OrtKernelInfo* info, const char* name, int64_t* out) noexcept -> OrtStatus* {
    const auto known = info->integers.find(name);
    if (known == info->integers.end()) return status(ORT_FAIL, "no such attribute");
    return *out = known->second, nullptr;
  };
  a.KernelInfoGetAttribute_float = [](const OrtKernelInfo*, const char*, float*) noexcept -> OrtStatus* {
    return status(ORT_FAIL, "no such attribute");
  };
  a.KernelInfo_GetNodeName = [](const OrtKernelInfo*, char* to, size_t* size) noexcept -> OrtStatus* {
    return text("layer 3", to, size);
  };
  a.KernelInfo_GetInputTypeInfo = [](const OrtKernelInfo* info, size_t, OrtTypeInfo** out) noexcept -> OrtStatus* {
    return types++, *out = new OrtTypeInfo{{info->shape}}, nullptr;
  };
  a.ReleaseTypeInfo = [](OrtTypeInfo* one) noexcept { types--, delete one; };
  a.CastTypeInfoToTensorInfo = [](const OrtTypeInfo* type, const OrtTensorTypeAndShapeInfo** out) noexcept
      -> OrtStatus* { return *out = &type->tensor, nullptr; };
  a.GetDimensionsCount = [](const OrtTensorTypeAndShapeInfo* info, size_t* out) noexcept -> OrtStatus* {
    return *out = info->dims.size(), nullptr;
  };
  a.GetDimensions = [](const OrtTensorTypeAndShapeInfo* info, int64_t* out, size_t) noexcept -> OrtStatus* {
    return std::copy(info->dims.begin(), info->dims.end(), out), nullptr;
  };
  if (newest) {  // the one function of 1.18 that is used
    a.KernelInfoGetAllocator = [](const OrtKernelInfo* info, OrtMemType, OrtAllocator** out) noexcept -> OrtStatus* {
      allocators++;
      *out = reinterpret_cast<OrtAllocator*>(const_cast<OrtKernelInfo*>(info));
      return nullptr;
    };
  }
  a.AllocatorGetInfo = [](const OrtAllocator* one, const OrtMemoryInfo** out) noexcept -> OrtStatus* {
    return *out = &reinterpret_cast<const OrtKernelInfo*>(one)->memory, nullptr;
  };
  a.ReleaseAllocator = [](OrtAllocator*) noexcept { allocators--; };
  a.MemoryInfoGetId = [](const OrtMemoryInfo* info, int* out) noexcept -> OrtStatus* {
    return *out = info->device, nullptr;
  };
  a.KernelContext_GetInput = [](const OrtKernelContext* context, size_t, const OrtValue** out) noexcept -> OrtStatus* {
    return *out = &context->input, nullptr;
  };
  a.KernelContext_GetOutput = [](OrtKernelContext* context, size_t, const int64_t* dims, size_t rank,
                                 OrtValue** out) noexcept -> OrtStatus* {
    // ONNX Runtime's own copy is no allocation of the operator's: the vector has its room already
    context->output.info.dims.assign(dims, dims + rank);
    return *out = &context->output, nullptr;
  };
  a.GetTensorTypeAndShape = [](const OrtValue* value, OrtTensorTypeAndShapeInfo** out) noexcept -> OrtStatus* {
    return shapes++, *out = const_cast<OrtTensorTypeAndShapeInfo*>(&value->info), nullptr;
  };
  a.ReleaseTensorTypeAndShapeInfo = [](OrtTensorTypeAndShapeInfo*) noexcept { shapes--; };
  a.GetTensorMutableData = [](OrtValue* value, void** out) noexcept -> OrtStatus* {
    return *out = value->data, nullptr;
  };
  a.KernelContext_GetGPUComputeStream = [](const OrtKernelContext* context, void** out) noexcept -> OrtStatus* {
    return *out = context->stream, nullptr;
  };
  return a;
}

inline const OrtApi api = made_api(true), oldest_api = made_api(false);  // 1.21's and 1.17's
inline uint32_t asked_for = 0;

// A runtime of `version`, which has no API newer than itself.
inline const OrtApiBase base = {
    [](uint32_t wanted) noexcept -> const OrtApi* { return asked_for = wanted, !version ? nullptr : wanted > 17 ? &api : &oldest_api; },
    []() noexcept -> const char* { return version ? version : "0.1.0"; }};

}  // namespace host

#endif  // ORT_CUDA_HOST_H
