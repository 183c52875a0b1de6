// 16 bytes of elements, one memory access; and the elements' way to float32 and back.
#ifndef APA_TENSORRT_PACK_CUH
#define APA_TENSORRT_PACK_CUH

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace apa {

constexpr int kPackBytes = 16;

template <class T>
struct alignas(kPackBytes) Pack {
  static constexpr int kSize = kPackBytes / static_cast<int>(sizeof(T));
  T at[kSize];
};

__device__ __forceinline__ float widened(float x) { return x; }
__device__ __forceinline__ float widened(__half x) { return __half2float(x); }
__device__ __forceinline__ float widened(__nv_bfloat16 x) { return __bfloat162float(x); }

template <class T>
struct Narrowed;  // to nearest, ties to even

template <>
struct Narrowed<float> {
  static __device__ __forceinline__ float from(float x) { return x; }
};
template <>
struct Narrowed<__half> {
  static __device__ __forceinline__ __half from(float x) { return __float2half_rn(x); }
};
template <>
struct Narrowed<__nv_bfloat16> {
  static __device__ __forceinline__ __nv_bfloat16 from(float x) { return __float2bfloat16_rn(x); }
};

template <class T>
__device__ __forceinline__ const Pack<T>* packs_of(const T* x) {
  return reinterpret_cast<const Pack<T>*>(x);
}
template <class T>
__device__ __forceinline__ Pack<T>* packs_of(T* y) {
  return reinterpret_cast<Pack<T>*>(y);
}

// This thread among all of the grid, and how many there are.
__device__ __forceinline__ int64_t thread_number() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ int64_t thread_count() { return static_cast<int64_t>(gridDim.x) * blockDim.x; }

}  // namespace apa

#endif  // APA_TENSORRT_PACK_CUH
