// com.apa::APA and com.apa::AGLU as ONNX Runtime custom operators, one for each number type.
#ifndef APA_OPERATORS_H
#define APA_OPERATORS_H

#include <onnxruntime_c_api.h>

#include "layer.h"

namespace apa {

// One operator for one type. ONNX Runtime keeps the address: objects live as long as the library.
struct Operator : OrtCustomOp {
  Operator(const OrtApi* api, uint32_t version, Kind kind, Element element, const Choice& choice);
  const OrtApi* api;
  Kind kind;
  Element element;
  Choice choice;
};

}  // namespace apa

#endif  // APA_OPERATORS_H
