// 16 bytes of elements, one memory access; the elements' way to float32 and back; and int8 codes of results.
#ifndef APA_TENSORRT_PACK_CUH
#define APA_TENSORRT_PACK_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

#include "apa/vector_math.h"

namespace apa {

constexpr int kPackBytes = 16;

template <class T, int kElements = kPackBytes / static_cast<int>(sizeof(T))>
struct alignas(kElements * sizeof(T)) Pack {
  static constexpr int kSize = kElements;
  T at[kSize];
};

// What becomes of a pack of T's: as many To's. 16 bytes again, or of int8 codes 4 or 8.
template <class T, class To>
using Results = Pack<To, Pack<T>::kSize>;

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(__half x) { return __half2float(x); }
__device__ __forceinline__ float widened(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class To>
struct Narrowed;  // to nearest, ties to even

template <>
struct Narrowed<float> {
  __device__ __forceinline__ float from(float x) const { return x; }
};
template <>
struct Narrowed<__half> {
  __device__ __forceinline__ __half from(float x) const { return __float2half_rn(x); }
};
template <>
struct Narrowed<__nv_bfloat16> {
  __device__ __forceinline__ __nv_bfloat16 from(float x) const { return __float2bfloat16_rn(x); }
};

// The code of y as QuantizeLinear has it with zero point 0: y / scale, rounded to float32 and then to the nearest
// integer, ties to even, within -128 .. 127. NaN becomes -128, as in ONNX Runtime on x86. Scales in
// 1e-30 .. 1e30 (fields.cc): nothing here overflows, and what underflows rounds to 0.
template <>
struct Narrowed<int8_t> {
  float scale, per_scale, least, most;

  // Bounded before the division, which then needs no bounds of its own.
  static Narrowed of(float scale) { return {scale, 1.0f / scale, -128.0f * scale, 127.0f * scale}; }

  __device__ __forceinline__ int8_t from(float y) const {
    const float bounded = fminf(fmaxf(y, least), most);
    // A product, and what it lacks: rounded as a division (Markstein), which would cost four times as much.
    const float quotient = bounded * per_scale;
    const float steps = fmaf(fmaf(-quotient, scale, bounded), per_scale, quotient);
    // Adding 1.5 * 2^23 rounds to an integer, whose low byte is then that of the bits: no slow conversion.
    return static_cast<int8_t>(as_bits(steps + VectorMath::kRounder));
  }
};

template <class T>
__device__ __forceinline__ const Pack<T>* packs_of(const T* x) {
  return reinterpret_cast<const Pack<T>*>(x);
}
template <class T, class To>
__device__ __forceinline__ Results<T, To>* results_of(To* y) {
  return reinterpret_cast<Results<T, To>*>(y);
}

// This thread among all of the grid, and how many there are.
__device__ __forceinline__ int64_t thread_number() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t thread_count() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

}  // namespace apa

#endif  // APA_TENSORRT_PACK_CUH
