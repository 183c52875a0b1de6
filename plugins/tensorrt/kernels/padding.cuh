// Clears the padding of a vectorised format: gate(0) is not 0, and what reads the tensor next may sum over it.
#ifndef APA_TENSORRT_PADDING_CUH
#define APA_TENSORRT_PADDING_CUH

#include "kernels/scalar.cuh"
#include "layout.h"

namespace apa {

// `cells`: how many elements of padding there are in all.
template <class T>
__global__ void __launch_bounds__(kThreads) clear_padding(bool dependent, T* y, int64_t cells, Padding padding) {
  take_turn(dependent);
  const int32_t width = padding.lanes - padding.keep;
  for (int64_t k = thread_number(); k < cells; k += thread_count()) {
    const int64_t row = k / width, span = row / padding.rows * padding.groups + padding.groups - 1;
    const int64_t start = (span * padding.rows + row % padding.rows) * padding.lanes;
    y[start + padding.keep + k % width] = T{};
  }
}

}  // namespace apa

#endif  // APA_TENSORRT_PADDING_CUH
