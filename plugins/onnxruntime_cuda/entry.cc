// The one exported symbol.
#include <onnxruntime_c_api.h>

#include <memory>
#include <mutex>
#include <vector>

#include "operators.h"
#include "registration.h"

namespace apa {
namespace {

// The provider inside ONNX Runtime, and that of 2026's packages of its own, whose first builds had another name.
#ifndef APA_PROVIDERS
#define APA_PROVIDERS "CUDAExecutionProvider", "CudaPluginExecutionProvider"
#endif
constexpr const char* kProviders[] = {APA_PROVIDERS};

// Never freed, as ONNX Runtime keeps pointers to them: one set a runtime, of which a process may hold several.
struct Operators {
  const OrtApi* api = nullptr;
  OrtCustomOpDomain* domain = nullptr;
  std::vector<std::unique_ptr<CudaOperator>> all;

  OrtStatus* make(const Api& a) {
    api = a.api;
    APA_TRY(api->CreateCustomOpDomain(kDomain, &domain));
    for (const char* provider : kProviders)
      for (Kind kind : {Kind::Gate, Kind::Unit})
        for (Element element : {Element::Float32, Element::Float16, Element::Bfloat16}) {
          all.push_back(std::make_unique<CudaOperator>(api, a.version, provider, kind, element));
          APA_TRY(api->CustomOpDomain_Add(domain, all.back().get()));
        }
    return nullptr;
  }
};

OrtStatus* find_domain(const Api& a, const OrtSessionOptions*, OrtCustomOpDomain** domain) {
  static std::mutex mutex;
  static auto* made = new std::vector<std::unique_ptr<Operators>>;  // outlives static destruction
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& one : *made)
    if (one->api == a.api) return *domain = one->domain, nullptr;
  auto fresh = std::make_unique<Operators>();
  APA_TRY(fresh->make(a));
  *domain = fresh->domain;
  made->push_back(std::move(fresh));
  return nullptr;
}

}  // namespace
}  // namespace apa

extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  return apa::register_library(options, base, "CUDA", apa::find_domain);
}
