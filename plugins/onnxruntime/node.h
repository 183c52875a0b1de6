// What a node of the model says, read through the C API; every failure names the node.
#ifndef APA_NODE_H
#define APA_NODE_H

#include <onnxruntime_c_api.h>

#include <functional>
#include <string>
#include <vector>

#include "attributes.h"

namespace apa {

class Node {
 public:
  Node(const OrtApi* api, const OrtKernelInfo* info, const char* operation)
      : api_(api), info_(info), operation_(operation) {}

  // Throws Refusal: the attribute is absent or no list of floats; or present, but no integer.
  std::vector<double> floats(const char* name) const;
  int64_t integer(const char* name, int64_t otherwise) const;
  // Throws Refusal: absent, or of another type.
  std::vector<int64_t> integers(const char* name) const;
  std::string bytes(const char* name) const;
  // The input's shape as far as the model states it, -1 where it does not; empty where it states nothing.
  std::vector<int64_t> input_shape(size_t index) const;
  std::string name() const;

  Attributes attributes() const;

 private:
  bool failed(OrtStatus* status) const;
  template <class Read>
  std::string text(Read read) const;
  const OrtApi* api_;
  const OrtKernelInfo* info_;
  const char* operation_;
};

// Runs `body`; what it throws becomes a status that starts with `where`.
OrtStatus* guarded(const OrtApi* api, const std::function<std::string()>& where,
                   const std::function<OrtStatus*()>& body) noexcept;

}  // namespace apa

#endif  // APA_NODE_H
