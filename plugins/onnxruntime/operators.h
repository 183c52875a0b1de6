// com.apa::APA and com.apa::AGLU as ONNX Runtime custom operators, one for each number type.
#ifndef APA_OPERATORS_H
#define APA_OPERATORS_H

#include "binding.h"
#include "layer.h"

namespace apa {

// One operator for one type.
struct Operator : Bound {
  Operator(const OrtApi* api, uint32_t version, Kind kind, Element element, const Choice& choice);
  Kind kind;
  Element element;
  Choice choice;
};

}  // namespace apa

#endif  // APA_OPERATORS_H
