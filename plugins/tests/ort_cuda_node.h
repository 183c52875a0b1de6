// One node of ours, made and run through the custom-operator API of the library that is linked, or loaded.
#ifndef ORT_CUDA_NODE_H
#define ORT_CUDA_NODE_H

#include <cstdio>
#include <cstdlib>

#include "ort_cuda_host.h"
#include "trt_reference.h"

namespace host {

using apa::Kind;
using Dims = std::vector<int64_t>;
using Floats = std::vector<float>;

inline std::string said(OrtStatus* status) {
  const std::string text = status ? status->text : "";
  host::api.ReleaseStatus(status);
  return text;
}

inline const std::vector<const OrtCustomOp*>& operators() {
  static OrtSessionOptions options;
  if (options.domains.empty()) said(RegisterCustomOps(&options, &host::base));
  return options.domains.at(0)->operators;
}

template <class T>
const OrtCustomOp& operator_of(Kind kind, const std::string& provider = "CUDAExecutionProvider") {
  const auto element = apa::Element{reference::Numbers<T>::kElement};
  const auto type = element == apa::Element::Float32   ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT
                    : element == apa::Element::Float16 ? ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16
                                                       : ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16;
  for (const OrtCustomOp* one : operators())
    if ((kind == Kind::Gate) == (std::string(one->GetName(one)) == "APA") && one->GetInputType(one, 0) == type &&
        one->GetOutputType(one, 0) == type && provider == one->GetExecutionProviderType(one))
      return *one;
  std::printf("no such operator\n");
  std::exit(2);
}

// One node, from its creation to its end.
struct Node {
  const OrtCustomOp& op;
  void* kernel = nullptr;
  std::string why;
  Node(const OrtCustomOp& o, const OrtKernelInfo& info) : op(o) { why = said(o.CreateKernelV2(&o, &host::api, &info, &kernel)); }
  ~Node() {
    if (kernel) op.KernelDestroy(kernel);
  }
  Node(const Node&) = delete;
  std::string run(OrtKernelContext& context) { return said(op.KernelComputeV2(kernel, &context)); }
};

inline OrtKernelInfo node_info(const Floats& lambda, const Floats& kappa, int64_t axis = 1, const Dims& shape = {}) {
  return {{{"lambda", lambda}, {"kappa", kappa}}, {{"axis", axis}}, shape, {}};
}

inline const Floats kLambdas = {0.f, 0.5f, 0.1f, 2.f, 1.f}, kKappas = {1.f, 0.7f, -0.5f, 1.3f, 2.f};

inline const Floats kOneLambda = {0.5f}, kOneKappa = {1.25f};

struct Case {
  Dims dims;
  int64_t axis;
  bool channels;

  size_t count(size_t from = 0) const {
    int64_t n = 1;
    for (size_t i = from; i < dims.size(); i++) n *= dims[i];
    return static_cast<size_t>(n);
  }
  size_t channel_of(size_t element) const {
    const size_t along = static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(dims.size()) : axis);
    return channels ? element / count(along + 1) % 5 : 0;
  }
  const Floats& lambdas() const { return channels ? kLambdas : kOneLambda; }
  const Floats& kappas() const { return channels ? kKappas : kOneKappa; }
  double exact(Kind kind, double z, size_t channel) const {
    return reference::activation(kind, z, lambdas()[channel], kappas()[channel]);
  }
  OrtKernelInfo info() const { return node_info(lambdas(), kappas(), axis, dims); }
};
inline const Case kCases[] = {{{}, 1, false},           {{1}, 5, false},          {{7}, 0, false},        {{3, 1001}, 1, false},
                       {{5}, 0, true},           {{5}, -1, true},          {{2, 5}, 1, true},      {{300, 5}, -1, true},
                       {{5, 7}, 0, true},        {{2, 5, 9}, 1, true},     {{2, 5, 3, 3}, 1, true}, {{2, 3, 3, 5}, 3, true},
                       {{2, 3, 5, 4}, -2, true}, {{1, 2, 3, 5, 2, 2}, 3, true}, {{4, 5, 64, 9}, 1, true},
                       {{0}, 0, false},          {{2, 5, 0}, 1, true},     {{0, 5}, 1, true}};

}  // namespace host

#endif  // ORT_CUDA_NODE_H
