// Per-channel parameters where neighbours in memory are neighbouring channels (channels-last layouts).
//
// The grid's stride is a multiple of the channels' period, so a thread meets the same channels in every pack
// and loads their coefficients once, into registers.
#ifndef APA_TENSORRT_LANES_CUH
#define APA_TENSORRT_LANES_CUH

#include "kernels/scalar.cuh"

namespace apa {

// Requires: thread_count() * Pack<T>::kSize is a multiple of `lanes`.
template <class Function, class T, class To>
__global__ void __launch_bounds__(kThreads)
    apply_lanes(bool dependent, const T* x, To* y, int64_t packs, int64_t count, int32_t lanes, const Channel* channels,
                Narrowed<To> to) {
  const int64_t stride = thread_count(), me = thread_number();
  Channel mine[Pack<T>::kSize];
  if (me < packs) {
    int32_t lane = static_cast<int32_t>(me * Pack<T>::kSize % lanes);
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; j++) {
      mine[j] = channels[lane];
      lane = lane + 1 == lanes ? 0 : lane + 1;
    }
  }
  take_turn(dependent);
  for (int64_t i = me; i < packs; i += stride) {
    const Pack<T> pack = packs_of(x)[i];
    Results<T, To> results;
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; j++) results.at[j] = applied<Function>(pack.at[j], mine[j].unfolded(), to);
    results_of<T>(y)[i] = results;
  }
  for (int64_t k = packs * Pack<T>::kSize + me; k < count; k += stride) {
    y[k] = applied<Function>(x[k], channels[k % lanes].unfolded(), to);
  }
}

}  // namespace apa

#endif  // APA_TENSORRT_LANES_CUH
