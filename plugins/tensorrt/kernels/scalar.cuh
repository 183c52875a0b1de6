// Scalar parameters: every element is treated alike, so any layout is a flat run of elements.
//
// All kernels take `packs`, how many whole packs lie at the start of the run (0 where a pointer is not
// aligned to a pack); the elements behind them are treated one by one. Threads stride over the run, so
// that a grid of any size does all of it. `dependent`: see take_turn. `to` makes a To of a float32 result: of the
// input's type, or int8.
#ifndef APA_TENSORRT_SCALAR_CUH
#define APA_TENSORRT_SCALAR_CUH

#include "kernels/device_math.cuh"
#include "kernels/pack.cuh"
#include "kernels/turn.cuh"

namespace apa {

constexpr int kThreads = 256;

// Packs in flight a thread: two loads before the first use hide latency; four cost registers, gain nothing.
constexpr int kUnrolled = 2;

template <class Function, class T, class To>
__device__ __forceinline__ To applied(T x, const Coefficients<float>& c, const Narrowed<To>& to) {
  return to.from(Function::at(widened(x), c));
}

template <class Function, class T, class To>
__device__ __forceinline__ Results<T, To> applied_to_all(const Pack<T>& pack, const Coefficients<float>& c,
                                                         const Narrowed<To>& to) {
  Results<T, To> results;
#pragma unroll
  for (int j = 0; j < Pack<T>::kSize; j++) results.at[j] = applied<Function>(pack.at[j], c, to);
  return results;
}

// This thread's part of all elements, whatever the size of the grid.
template <class Function, class T, class To>
__device__ __forceinline__ void apply_all(const T* x, To* y, int64_t packs, int64_t count, const Coefficients<float>& c,
                                          const Narrowed<To>& to) {
  const int64_t stride = thread_count(), me = thread_number();
  int64_t i = me;
  for (; i + (kUnrolled - 1) * stride < packs; i += kUnrolled * stride) {
    Pack<T> pack[kUnrolled];
#pragma unroll
    for (int u = 0; u < kUnrolled; u++) pack[u] = packs_of(x)[i + u * stride];
#pragma unroll
    for (int u = 0; u < kUnrolled; u++) results_of<T>(y)[i + u * stride] = applied_to_all<Function>(pack[u], c, to);
  }
  for (; i < packs; i += stride) results_of<T>(y)[i] = applied_to_all<Function>(packs_of(x)[i], c, to);
  for (int64_t k = packs * Pack<T>::kSize + me; k < count; k += stride) y[k] = applied<Function>(x[k], c, to);
}

template <class Function, class T, class To>
__global__ void __launch_bounds__(kThreads)
    apply_scalar(bool dependent, const T* x, To* y, int64_t packs, int64_t count, Coefficients<float> c,
                 Narrowed<To> to) {
  take_turn(dependent);
  apply_all<Function>(x, y, packs, count, c, to);
}

}  // namespace apa

#endif  // APA_TENSORRT_SCALAR_CUH
