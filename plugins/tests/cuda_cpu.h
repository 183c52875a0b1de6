// Runs CUDA kernels on the CPU: the same source, compiled by a C++ compiler, blocks and threads as loops.
//
// Shows: index, tail and layout errors, misaligned or overrunning accesses (with -fsanitize=address,undefined),
// and the arithmetic. Cannot show: races within a warp, launch limits, the real ex2.approx. No kernel here calls
// __syncthreads. Include before any kernel source; needs the CUDA headers and no CUDA library.
#ifndef CUDA_CPU_H
#define CUDA_CPU_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#undef __global__
#undef __device__
#undef __shared__
#undef __forceinline__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __grid_constant__

namespace cuda_cpu {

struct Index {
  unsigned x = 0, y = 0, z = 0;
};

inline Index thread, block;
inline dim3 block_size, grid_size;
inline std::mutex one_grid;  // what stands above is of one grid; programs with threads launch several

// Set where there are streams that record (cuda_cpu_streams.cc): the graph that a launch goes into, or null.
inline std::vector<std::function<void()>>* (*graph_of)(cudaStream_t stream) = nullptr;

// Blocks to run of a grid, so that a tensor of 2^32 elements can be tested at its two ends.
struct Window {
  int64_t first = 0, last = INT64_MAX;
  bool holds(int64_t number) const { return number <= first || number >= last; }
};
inline Window skipped{INT64_MAX, INT64_MAX};  // by default every block runs

inline const std::function<void()>* body = nullptr;

inline void run_block() {
  for (thread.x = 0; thread.x < block_size.x; thread.x++) (*body)();
}

// Called as a kernel begins (true) and ends; and the stream of the last launch.
inline void (*on_device)(bool) = nullptr;
inline cudaStream_t last_stream = nullptr;

inline void run_grid(unsigned blocks, unsigned threads, const std::function<void()>& kernel) {
  grid_size = dim3(blocks);
  block_size = dim3(threads);
  body = &kernel;
  if (on_device) on_device(true);
  for (block.x = 0; block.x < blocks; block.x++) {
    if (skipped.holds(block.x)) run_block();
  }
  body = nullptr;
  if (on_device) on_device(false);
}

}  // namespace cuda_cpu

#define threadIdx cuda_cpu::thread
#define blockIdx cuda_cpu::block
#define blockDim cuda_cpu::block_size
#define gridDim cuda_cpu::grid_size

#endif  // CUDA_CPU_H
