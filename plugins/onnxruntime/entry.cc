// The one exported symbol. No link to libonnxruntime: everything goes through the API that it hands over.
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "operators.h"

namespace apa {
namespace {

constexpr char kDomain[] = "com.apa";
constexpr char kRegistered[] = "com.apa.registered";
constexpr char kKernelEntry[] = "com.apa.kernel";
constexpr char kKernelVariable[] = "APA_KERNEL";
constexpr unsigned kOldest = 17;  // KernelContext_ParallelFor and InferOutputShapeFn came with it

struct Api {
  const OrtApi* api = nullptr;
  uint32_t version = 0;
};

// The runtime's own version, never above that of our headers: asking for a higher one prints an error,
// and an operator whose version differs from what was obtained is silently not registered.
Api negotiated(const OrtApiBase* base) {
  unsigned major = 0, minor = 0;
  std::sscanf(base->GetVersionString(), "%u.%u", &major, &minor);
  const uint32_t version = major > 1 ? ORT_API_VERSION : std::min<unsigned>(minor, ORT_API_VERSION);
  return {base->GetApi(version), version};
}

// The operators of one kernel choice in their domain. ONNX Runtime keeps pointers to both for as long as
// a session lives, so they are never freed: one set a choice and process.
struct Operators {
  OrtCustomOpDomain* domain = nullptr;
  std::unique_ptr<Operator> all[8];

  OrtStatus* make(const Api& a, Choice choice) {
    OrtStatus* status = a.api->CreateCustomOpDomain(kDomain, &domain);
    size_t i = 0;
    for (Kind kind : {Kind::Gate, Kind::Unit})
      for (Element element : {Element::Float32, Element::Float16, Element::Bfloat16, Element::Float64}) {
        if (status) return status;
        all[i] = std::make_unique<Operator>(a.api, a.version, kind, element, choice);
        status = a.api->CustomOpDomain_Add(domain, all[i++].get());
      }
    return status;
  }
};

OrtStatus* domain_for(const Api& a, Choice choice, OrtCustomOpDomain** domain) {
  static std::mutex mutex;
  static Operators* made[4];
  const std::lock_guard<std::mutex> lock(mutex);
  Operators*& slot = made[static_cast<size_t>(choice)];
  if (!slot) {
    auto fresh = std::make_unique<Operators>();
    if (OrtStatus* status = fresh->make(a, choice)) return status;
    slot = fresh.release();
  }
  *domain = slot->domain;
  return nullptr;
}

bool choice_of(const char* text, Choice* choice) {
  const struct { const char* name; Choice choice; } names[] = {
      {"", Choice::Auto}, {"auto", Choice::Auto}, {"exact", Choice::Exact}, {"acc", Choice::Acc}, {"pw", Choice::Pw}};
  for (const auto& n : names)
    if (std::strcmp(n.name, text) == 0) {
      *choice = n.choice;
      return true;
    }
  return false;
}

OrtStatus* read_entry(const OrtApi* api, OrtSessionOptions* options, const char* key, char* value, size_t size) {
  int present = 0;
  value[0] = '\0';
  if (OrtStatus* status = api->HasSessionConfigEntry(options, key, &present)) return status;
  return present ? api->GetSessionConfigEntry(options, key, value, &size) : nullptr;
}

// The session's entry "com.apa.kernel" if it was set before the library was registered, else $APA_KERNEL.
OrtStatus* chosen(const OrtApi* api, OrtSessionOptions* options, Choice* choice) {
  char text[32];
  if (OrtStatus* status = read_entry(api, options, kKernelEntry, text, sizeof text)) return status;
  const char* variable = std::getenv(kKernelVariable);
  const char* said = text[0] || !variable ? text : variable;
  if (choice_of(said, choice)) return nullptr;
  return api->CreateStatus(ORT_INVALID_ARGUMENT, "com.apa: the kernel (APA_KERNEL or com.apa.kernel) is none of "
                                                 "auto, exact, acc, pw");
}

OrtStatus* register_once(const Api& a, OrtSessionOptions* options) {
  char seen[8];
  if (OrtStatus* status = read_entry(a.api, options, kRegistered, seen, sizeof seen)) return status;
  if (seen[0]) return nullptr;
  Choice choice = Choice::Auto;
  OrtCustomOpDomain* domain = nullptr;
  if (OrtStatus* status = chosen(a.api, options, &choice)) return status;
  if (OrtStatus* status = domain_for(a, choice, &domain)) return status;
  if (OrtStatus* status = a.api->AddCustomOpDomain(options, domain)) return status;
  return a.api->AddSessionConfigEntry(options, kRegistered, "1");
}

}  // namespace
}  // namespace apa

extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  const apa::Api a = apa::negotiated(base);
  if (!a.api) return nullptr;  // there is nothing to say an error with
  if (a.version < apa::kOldest)
    return a.api->CreateStatus(ORT_NOT_IMPLEMENTED, "com.apa: wanted ONNX Runtime 1.17 or newer");
  try {
    return apa::register_once(a, options);
  } catch (const std::exception& error) {
    return a.api->CreateStatus(ORT_FAIL, error.what());
  }
}
