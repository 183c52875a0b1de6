// How a library of operators comes into a session, whatever its provider. No link to libonnxruntime: everything goes
// through the API that it hands over.
#ifndef APA_REGISTRATION_H
#define APA_REGISTRATION_H

#include <onnxruntime_c_api.h>

#include <functional>

namespace apa {

struct Api {
  const OrtApi* api = nullptr;
  uint32_t version = 0;
};

// The operators in a new domain com.apa. ONNX Runtime keeps pointers to both for as long as a session lives.
using FindDomain = std::function<OrtStatus*(const Api&, const OrtSessionOptions*, OrtCustomOpDomain**)>;

constexpr char kDomain[] = "com.apa";

// The body of RegisterCustomOps. A second registration with the same options does nothing; one of another `library`
// ("CPU", "CUDA") is refused, for ONNX Runtime would place a node as whichever came first.
OrtStatus* register_library(OrtSessionOptions* options, const OrtApiBase* base, const char* library,
                            const FindDomain& find_domain) noexcept;

}  // namespace apa

#endif  // APA_REGISTRATION_H
