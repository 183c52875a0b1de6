// The operators of a prepared model only: what remains of SE and CBAM blocks in ONNX Runtime's blocked layout.
//
//   Gated      x, [channel gate], [plane gate], [residual] -> x * gates + residual
//   GatedAGLU  the same, then the unit
//   ChannelPool x, [channel gate] -> largest and mean over the channels, planes in NCHW
//
// float32. x and residual are NCHW, or NCHWc where the attribute `block` is above 1; gates are (N or 1, C, 1, 1)
// and (N or 1, 1, H, W). `channels` is C: memory may hold more.
#ifndef APA_ATTENTION_OPERATORS_H
#define APA_ATTENTION_OPERATORS_H

#include "binding.h"
#include "choice.h"

namespace apa {

struct GatedOperator : Bound {
  GatedOperator(const OrtApi* api, uint32_t version, bool with_unit, const Choice& choice);
  bool with_unit;
  Choice choice;
};

struct ChannelPoolOperator : Bound {
  ChannelPoolOperator(const OrtApi* api, uint32_t version);
};

}  // namespace apa

#endif  // APA_ATTENTION_OPERATORS_H
