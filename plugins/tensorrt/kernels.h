// Runs one activation on a device. Nothing here allocates or synchronises.
#ifndef APA_TENSORRT_KERNELS_H
#define APA_TENSORRT_KERNELS_H

#include <cuda_runtime_api.h>

#include "activation.h"
#include "layout.h"

namespace apa {

// Everything a launch needs that does not change from one launch to the next.
struct Job {
  Kind kind;
  Element element;  // of x
  bool per_channel;
  Layout layout;
  int32_t processors;         // of the device: the grid is sized to it
  Coefficients<float> scalar;  // where not per_channel
  const Channel* channels;     // where per_channel, on the device
  bool dependent = false;      // starts before the grid before it in its stream has ended: only where can_depend
};

// Whether the kernels' code for the current device waits for the grid before them.
cudaError_t can_depend(bool& can);

// y = activation(x) on `stream`, of x's type. x and y hold layout.count elements and do not overlap, or are the same.
// Fastest where both are aligned to 16 bytes, right for any alignment of the element types.
// Padding that the gate would fill with gate(0) is cleared; the unit keeps a zero there a zero.
cudaError_t run(const Job& job, const void* x, void* y, cudaStream_t stream);

// The same, but y holds int8 codes of that scale, and is never x (kernels_codes.cu).
cudaError_t run(const Job& job, float scale, const void* x, void* y, cudaStream_t stream);

}  // namespace apa

#endif  // APA_TENSORRT_KERNELS_H
