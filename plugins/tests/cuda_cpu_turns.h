// Programmatic dependent launch on the CPU, at its worst: a grid that is launched so begins before the one in front of
// it in its stream has done anything. That one runs where a thread first waits for it, and else too late, after the
// grid. So a kernel that reads or writes before it waits computes on what was there before. Of kernels that do not call
// __syncthreads. Include after cuda_cpu.h.
#ifndef CUDA_CPU_TURNS_H
#define CUDA_CPU_TURNS_H

#include <functional>
#include <utility>

#include "cuda_cpu_runtime.h"

namespace cuda_cpu {

inline int code = 80;  // the compute capability that the kernels are compiled for

inline std::function<void()> in_front;  // of the grid that runs, where that did not wait yet

// Runs it, in the middle of another grid.
inline void run_inside(const std::function<void()>& grid) {
  const Index my_thread = thread, my_block = block;
  const dim3 my_block_size = block_size, my_grid_size = grid_size;
  const std::function<void()>* my_body = body;
  grid();
  thread = my_thread, block = my_block, block_size = my_block_size, grid_size = my_grid_size, body = my_body;
}

// griddepcontrol.wait; and how often it was called.
inline int waits = 0;
inline void wait_for_grid_before() {
  waits++;
  if (in_front) run_inside(std::exchange(in_front, nullptr));
}

// Keeps a grid until something waits for it.
inline void put_off(bool dependent, std::function<void()> grid) {
  if (!dependent) finish();
  unfinished = [before = std::exchange(unfinished, nullptr), grid = std::move(grid)] {
    const std::function<void()> outer = std::exchange(in_front, before);
    grid();
    if (in_front) run_inside(in_front);  // it never waited
    in_front = outer;
  };
}

}  // namespace cuda_cpu

#endif  // CUDA_CPU_TURNS_H
