// What every operator of the library asks ONNX Runtime for, or tells it, in the same words.
#ifndef APA_BINDING_H
#define APA_BINDING_H

#include <onnxruntime_c_api.h>

#include <cstddef>

#define APA_TRY(call)                        \
  do {                                       \
    if (OrtStatus* status_ = (call)) return status_; \
  } while (false)

namespace apa {

// Elements a task: MEASUREMENTS saw no difference between 4k and 64k. A multiple of every lane period.
constexpr size_t kTask = 16384;
constexpr size_t kRank = 64;  // ONNX Runtime's own limit is far below

// ONNX Runtime keeps the address of an operator: objects live as long as the library.
struct Bound : OrtCustomOp {
  // Everything but names, types, numbers of inputs and what is computed. One output; every input required.
  Bound(const OrtApi* api, uint32_t version);
  // The output has the shape of input 0, and may take its memory.
  void output_like_input();
  const OrtApi* api;
};

OrtStatus* read_shape(const OrtApi* api, const OrtValue* value, int64_t* dims, size_t* rank);

}  // namespace apa

#endif  // APA_BINDING_H
