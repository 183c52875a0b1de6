// The operators of a prepared 8-bit model only: an activation as a table, with the sum and the gate before it.
//
//   QLinearAGLU          x                   y = table[x]
//   QLinearAddAGLU       a, b                y = table[clamp(round(a*fa + b*fb))]
//   QLinearGatedAddAGLU  x, residual, gate   y = table[clamp(round(x*gate*fx + residual*fr))]
//
// uint8 or int8, all of one type; the gate is float32 (N or 1, C, 1, 1), and the maps beside it are NHWC. Attributes:
// `table`, a string of 256 bytes: for QLinearAGLU by the byte of x, else by the sum's code, counted from the lowest.
// `factors`: scale of each input over that of the sum. `zeros`: zero points of both inputs and of the sum.
#ifndef APA_QUANTISED_OPERATORS_H
#define APA_QUANTISED_OPERATORS_H

#include "binding.h"
#include "bytes.h"

namespace apa {

enum class Tail { Unit, Add, GatedAdd };

struct QuantisedOperator : Bound {
  QuantisedOperator(const OrtApi* api, uint32_t version, Tail tail, bool is_signed, Instructions allowed);
  Tail tail;
  bool is_signed;
  const ByteKernels* kernels;
};

}  // namespace apa

#endif  // APA_QUANTISED_OPERATORS_H
