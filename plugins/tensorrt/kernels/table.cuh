// int8 with scalar parameters: one table, in shared memory (256 bytes lie in 64 banks' words: no lookup of
// a warp waits for more than one other).
#ifndef APA_TENSORRT_TABLE_CUH
#define APA_TENSORRT_TABLE_CUH

#include "kernels/scalar.cuh"

namespace apa {

__global__ void __launch_bounds__(kThreads)
    apply_table(bool dependent, const int8_t* x, int8_t* y, int64_t packs, int64_t count, const __grid_constant__ ByteTable table) {
  __shared__ int8_t entry[256];
  for (unsigned i = threadIdx.x; i < 256; i += blockDim.x) entry[i] = table.entry[i];
  take_turn(dependent);
  __syncthreads();
  const int64_t stride = thread_count(), me = thread_number();
  for (int64_t i = me; i < packs; i += stride) {
    Pack<int8_t> pack = packs_of(x)[i];
#pragma unroll
    for (int j = 0; j < Pack<int8_t>::kSize; j++) pack.at[j] = entry[static_cast<uint8_t>(pack.at[j])];
    packs_of(y)[i] = pack;
  }
  for (int64_t k = packs * Pack<int8_t>::kSize + me; k < count; k += stride) {
    y[k] = entry[static_cast<uint8_t>(x[k])];
  }
}

}  // namespace apa

#endif  // APA_TENSORRT_TABLE_CUH
