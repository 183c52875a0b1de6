// What every operator of the library asks ONNX Runtime for, or tells it, in the same words.
#ifndef APA_BINDING_H
#define APA_BINDING_H

#include <onnxruntime_c_api.h>

#include <algorithm>
#include <cstddef>

#define APA_TRY(call)                        \
  do {                                       \
    if (OrtStatus* status_ = (call)) return status_; \
  } while (false)

namespace apa {

// How elements are shared among threads: tasks of equal size, four or a multiple, so that of two or four threads none
// gets one more than another. Few elements are one task: waking a thread takes as long as they do.
struct Tasks {
  explicit Tasks(size_t total_, size_t most = 16384) : total(total_) {
    constexpr size_t kAligned = 64;  // a multiple of every block of channels
    const size_t wanted = total <= most ? 1 : 4 * ((total + 4 * most - 1) / (4 * most));
    size = ((total + wanted - 1) / wanted + kAligned - 1) / kAligned * kAligned;
    count = size ? (total + size - 1) / size : 0;
  }
  size_t begin(size_t task) const { return task * size; }
  size_t end(size_t task) const { return std::min(total, (task + 1) * size); }
  size_t total, size, count;
};

constexpr size_t kRank = 64;  // ONNX Runtime's own limit is far below

// ONNX Runtime keeps the address of an operator: objects live as long as the library.
struct Bound : OrtCustomOp {
  // Everything but names, types, numbers of inputs and what is computed. One output; every input required.
  Bound(const OrtApi* api, uint32_t version, const char* provider = "CPUExecutionProvider");
  // The output has the shape of input 0, and may take its memory.
  void output_like_input();
  const OrtApi* api;
  const char* provider;
};

OrtStatus* read_shape(const OrtApi* api, const OrtValue* value, int64_t* dims, size_t* rank);

}  // namespace apa

#endif  // APA_BINDING_H
