// The one exported symbol.
#include <onnxruntime_c_api.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "attention_operators.h"
#include "operators.h"
#include "quantised_operators.h"
#include "registration.h"

namespace apa {
namespace {

constexpr char kKernel[] = "com.apa.kernel";  // a session's own choice, made before it registers the library

// The operators in their domain. ONNX Runtime keeps pointers to both for as long as a session lives, so they
// are never freed: one set a runtime, of which a process may hold several, and a choice of kernels.
struct Operators {
  const OrtApi* api = nullptr;
  Choice choice;
  OrtCustomOpDomain* domain = nullptr;
  std::unique_ptr<Operator> all[8];
  std::unique_ptr<GatedOperator> gated[2];
  std::unique_ptr<ChannelPoolOperator> pool;
  std::vector<std::unique_ptr<QuantisedOperator>> quantised;

  OrtStatus* make(const Api& a, const Choice& c) {
    api = a.api;
    choice = c;
    OrtStatus* status = api->CreateCustomOpDomain(kDomain, &domain);
    size_t i = 0;
    for (Kind kind : {Kind::Gate, Kind::Unit})
      for (Element element : {Element::Float32, Element::Float16, Element::Bfloat16, Element::Float64}) {
        if (status) return status;
        all[i] = std::make_unique<Operator>(api, a.version, kind, element, choice);
        status = api->CustomOpDomain_Add(domain, all[i++].get());
      }
    return status ? status : make_attention(a);
  }

  OrtStatus* make_attention(const Api& a) {
    for (bool with_unit : {false, true}) {
      gated[with_unit] = std::make_unique<GatedOperator>(api, a.version, with_unit, choice);
      if (OrtStatus* status = api->CustomOpDomain_Add(domain, gated[with_unit].get())) return status;
    }
    pool = std::make_unique<ChannelPoolOperator>(api, a.version);
    OrtStatus* status = api->CustomOpDomain_Add(domain, pool.get());
    return status ? status : make_quantised(a);
  }

  OrtStatus* make_quantised(const Api& a) {
    for (Tail tail : {Tail::Unit, Tail::Add, Tail::GatedAdd})
      for (bool is_signed : {false, true}) {
        quantised.push_back(
            std::make_unique<QuantisedOperator>(api, a.version, tail, is_signed, choice.instructions));
        if (OrtStatus* status = api->CustomOpDomain_Add(domain, quantised.back().get())) return status;
      }
    return nullptr;
  }
};

OrtStatus* domain_for(const Api& a, const Choice& choice, OrtCustomOpDomain** domain) {
  static std::mutex mutex;
  static auto* made = new std::vector<std::unique_ptr<Operators>>;  // outlives static destruction
  const std::lock_guard<std::mutex> lock(mutex);
  auto known = std::find_if(made->begin(), made->end(), [&](const auto& one) {
    return one->api == a.api && one->choice == choice;
  });
  if (known == made->end()) {
    auto fresh = std::make_unique<Operators>();
    if (OrtStatus* status = fresh->make(a, choice)) return status;
    known = made->insert(made->end(), std::move(fresh));
  }
  *domain = (*known)->domain;
  return nullptr;
}

// What the environment says, unless the session says otherwise. Throws std::invalid_argument.
OrtStatus* choose(const Api& a, const OrtSessionOptions* options, Choice* choice) {
  *choice = choice_of_environment();
  size_t size = 0;
  int present = 0;
  if (OrtStatus* status = a.api->HasSessionConfigEntry(options, kKernel, &present)) return status;
  if (!present) return nullptr;
  if (OrtStatus* status = a.api->GetSessionConfigEntry(options, kKernel, nullptr, &size)) return status;
  std::string name(size, '\0');
  if (OrtStatus* status = a.api->GetSessionConfigEntry(options, kKernel, &name[0], &size)) return status;
  choice->wanted = wanted_kernel(name.c_str(), kKernel);
  return nullptr;
}

OrtStatus* find_domain(const Api& a, const OrtSessionOptions* options, OrtCustomOpDomain** domain) {
  Choice choice;
  if (OrtStatus* status = choose(a, options, &choice)) return status;
  return domain_for(a, choice, domain);
}

}  // namespace
}  // namespace apa

extern "C" __attribute__((visibility("default"))) OrtStatus* ORT_API_CALL RegisterCustomOps(
    OrtSessionOptions* options, const OrtApiBase* base) {
  return apa::register_library(options, base, "CPU", apa::find_domain);
}
