// Scalar parameters: every element is treated alike, so any layout is a flat run of elements.
//
// All kernels take `packs`, how many whole packs lie at the start of the run (0 where a pointer is not
// aligned to a pack); the elements behind them are treated one by one. Threads stride over the run, so
// that a grid of any size does all of it. `dependent`: see take_turn.
#ifndef APA_TENSORRT_SCALAR_CUH
#define APA_TENSORRT_SCALAR_CUH

#include "kernels/device_math.cuh"
#include "kernels/pack.cuh"
#include "kernels/turn.cuh"

namespace apa {

constexpr int kThreads = 256;

// Packs in flight a thread: two loads before the first use hide latency; four cost registers, gain nothing.
constexpr int kUnrolled = 2;

template <class Function, class T>
__device__ __forceinline__ T applied(T x, const Coefficients<float>& c) {
  return Narrowed<T>::from(Function::at(widened(x), c));
}

template <class Function, class T>
__device__ __forceinline__ Pack<T> applied(Pack<T> pack, const Coefficients<float>& c) {
#pragma unroll
  for (int j = 0; j < Pack<T>::kSize; j++) pack.at[j] = applied<Function>(pack.at[j], c);
  return pack;
}

// This thread's part of all elements, whatever the size of the grid.
template <class Function, class T>
__device__ __forceinline__ void apply_all(const T* x, T* y, int64_t packs, int64_t count, const Coefficients<float>& c) {
  const int64_t stride = thread_count(), me = thread_number();
  int64_t i = me;
  for (; i + (kUnrolled - 1) * stride < packs; i += kUnrolled * stride) {
    Pack<T> pack[kUnrolled];
#pragma unroll
    for (int u = 0; u < kUnrolled; u++) pack[u] = packs_of(x)[i + u * stride];
#pragma unroll
    for (int u = 0; u < kUnrolled; u++) packs_of(y)[i + u * stride] = applied<Function>(pack[u], c);
  }
  for (; i < packs; i += stride) packs_of(y)[i] = applied<Function>(packs_of(x)[i], c);
  for (int64_t k = packs * Pack<T>::kSize + me; k < count; k += stride) y[k] = applied<Function>(x[k], c);
}

template <class Function, class T>
__global__ void __launch_bounds__(kThreads)
    apply_scalar(bool dependent, const T* x, T* y, int64_t packs, int64_t count, Coefficients<float> c) {
  take_turn(dependent);
  apply_all<Function>(x, y, packs, count, c);
}

}  // namespace apa

#endif  // APA_TENSORRT_SCALAR_CUH
