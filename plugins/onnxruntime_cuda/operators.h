// com.apa::APA and com.apa::AGLU for ONNX Runtime's CUDA provider, with the TensorRT plugin's kernels.
#ifndef APA_CUDA_OPERATORS_H
#define APA_CUDA_OPERATORS_H

#include "activation.h"
#include "binding.h"

namespace apa {

// One operator for one type on one provider.
struct CudaOperator : Bound {
  CudaOperator(const OrtApi* api, uint32_t version, const char* provider, Kind kind, Element element);
  Kind kind;
  Element element;
};

}  // namespace apa

#endif  // APA_CUDA_OPERATORS_H
