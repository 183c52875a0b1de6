// Runs CUDA kernels on the CPU: the same source, compiled by a C++ compiler, blocks and threads as loops.
//
// Shows: index, tail and layout errors, misaligned or overrunning accesses (with -fsanitize=address,undefined),
// the arithmetic, and a missing __syncthreads. Cannot show: races within a warp, launch limits, the real
// ex2.approx. Include before any kernel source; needs the CUDA headers and no CUDA library.
#ifndef CUDA_CPU_H
#define CUDA_CPU_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>
#include <ucontext.h>

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

// One thread of a block that synchronises: a fibre, which gives way at __syncthreads.
struct Fibre {
  ucontext_t context{};
  std::vector<char> stack = std::vector<char>(1 << 15);
  bool done = false;
};
inline std::vector<Fibre> fibres;  // kept from one launch to the next: their stacks cost more than they run
inline ucontext_t scheduler;
inline Fibre* current = nullptr;
inline const std::function<void()>* body = nullptr;

inline void run_fibre() {
  (*body)();
  current->done = true;
  swapcontext(&current->context, &scheduler);
}

inline void synchronise() { swapcontext(&current->context, &scheduler); }

inline void start(Fibre& fibre) {
  fibre.done = false;
  getcontext(&fibre.context);
  fibre.context.uc_stack.ss_sp = fibre.stack.data();
  fibre.context.uc_stack.ss_size = fibre.stack.size();
  makecontext(&fibre.context, run_fibre, 0);
}

// Every thread of a block as far as the next __syncthreads, again and again.
inline void run_block_of_fibres() {
  fibres.resize(block_size.x);
  for (Fibre& fibre : fibres) start(fibre);
  for (bool busy = true; busy;) {
    busy = false;
    for (unsigned i = 0; i < fibres.size(); i++) {
      if (fibres[i].done) continue;
      current = &fibres[i];
      thread.x = i;
      swapcontext(&scheduler, &current->context);
      busy |= !current->done;
    }
  }
}

inline void run_block() {
  for (thread.x = 0; thread.x < block_size.x; thread.x++) (*body)();
}

// Called as a kernel begins (true) and ends; and the stream of the last launch.
inline void (*on_device)(bool) = nullptr;
inline cudaStream_t last_stream = nullptr;

// Runs a grid. `synchronises`: whether the kernel calls __syncthreads.
inline void run_grid(unsigned blocks, unsigned threads, bool synchronises, const std::function<void()>& kernel) {
  grid_size = dim3(blocks);
  block_size = dim3(threads);
  body = &kernel;
  if (on_device) on_device(true);
  for (block.x = 0; block.x < blocks; block.x++) {
    if (!skipped.holds(block.x)) continue;
    if (synchronises) {
      run_block_of_fibres();
    } else {
      run_block();
    }
  }
  if (on_device) on_device(false);
}

}  // namespace cuda_cpu

#define threadIdx cuda_cpu::thread
#define blockIdx cuda_cpu::block
#define blockDim cuda_cpu::block_size
#define gridDim cuda_cpu::grid_size
#undef __syncthreads
#define __syncthreads() cuda_cpu::synchronise()

#endif  // CUDA_CPU_H
