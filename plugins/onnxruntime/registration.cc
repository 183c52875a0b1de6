#include "registration.h"

#include <algorithm>
#include <charconv>
#include <exception>
#include <stdexcept>
#include <string>

#include "binding.h"

namespace apa {
namespace {

constexpr char kRegistered[] = "com.apa.registered";
constexpr unsigned kOldest = 17;  // KernelContext_ParallelFor and InferOutputShapeFn came with it

// The runtime's own version, never above that of our headers: asking for a higher one prints an error,
// and an operator whose version differs from what was obtained is silently not registered.
Api negotiated(const OrtApiBase* base) {
  unsigned major = 0, minor = 0;
  // not sscanf, which compilers turn into one that only later C libraries have
  const std::string text = base->GetVersionString();
  const char* end = text.data() + text.size();
  const char* dot = std::from_chars(text.data(), end, major).ptr;
  if (dot != end) std::from_chars(dot + 1, end, minor);
  const uint32_t version = major > 1 ? ORT_API_VERSION : std::min<unsigned>(minor, ORT_API_VERSION);
  return {base->GetApi(version), version};
}

OrtStatus* refuse_other(const OrtApi* api, const OrtSessionOptions* options, const char* library) {
  char known[16] = "";
  size_t size = sizeof known;
  APA_TRY(api->GetSessionConfigEntry(options, kRegistered, known, &size));
  if (std::string(known) == library) return nullptr;
  const std::string text = std::string("com.apa: the operators for ") + known +
                           " are registered with these options already; wanted those of one provider. Register " +
                           "those for CUDA where CUDAExecutionProvider runs the model, else those for the CPU.";
  return api->CreateStatus(ORT_INVALID_ARGUMENT, text.c_str());
}

OrtStatus* register_once(const Api& a, OrtSessionOptions* options, const char* library, const FindDomain& find_domain) {
  int present = 0;
  APA_TRY(a.api->HasSessionConfigEntry(options, kRegistered, &present));
  if (present) return refuse_other(a.api, options, library);
  OrtCustomOpDomain* domain = nullptr;
  APA_TRY(find_domain(a, options, &domain));
  APA_TRY(a.api->AddCustomOpDomain(options, domain));
  return a.api->AddSessionConfigEntry(options, kRegistered, library);
}

}  // namespace

OrtStatus* register_library(OrtSessionOptions* options, const OrtApiBase* base, const char* library,
                            const FindDomain& find_domain) noexcept {
  const Api a = negotiated(base);
  if (!a.api) return nullptr;  // there is nothing to say an error with
  if (a.version < kOldest)
    return a.api->CreateStatus(ORT_NOT_IMPLEMENTED, "com.apa: wanted ONNX Runtime 1.17 or newer");
  try {
    return register_once(a, options, library, find_domain);
  } catch (const std::invalid_argument& error) {
    return a.api->CreateStatus(ORT_INVALID_ARGUMENT, error.what());
  } catch (const std::exception& error) {
    return a.api->CreateStatus(ORT_FAIL, error.what());
  }
}

}  // namespace apa
