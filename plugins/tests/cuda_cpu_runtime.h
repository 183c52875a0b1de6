// Control over the stand-in for the CUDA runtime (cuda_cpu_runtime.cc).
#ifndef CUDA_CPU_RUNTIME_H
#define CUDA_CPU_RUNTIME_H

#include <cuda_runtime_api.h>

#include <functional>
#include <utility>

namespace cuda_cpu {

struct Calls {
  int device = 0, allocations = 0, frees = 0, copies = 0, others = 0;
  int failing_allocation = 0, failing_copy = 0;  // which call fails, counted from 1; 0: none
  int current = 0, where = -1;                   // the thread's device; that of the last allocation
};
extern Calls calls;
extern thread_local cudaStreamCaptureMode mode;
extern bool captures_elsewhere;  // another thread captures: allocations are refused in any mode but Relaxed
extern cudaError_t failing;  // what cudaGetDevice answers

// Grids that begin as late as CUDA may let them: where `late` is set, a launch is kept until something waits for it.
inline bool late = false;
inline std::function<void()> unfinished;  // the last grid that was launched, which runs those before it

// What everything does that is no dependent launch.
inline void finish() {
  if (const auto work = std::exchange(unfinished, nullptr)) work();
}

}  // namespace cuda_cpu

#endif  // CUDA_CPU_RUNTIME_H
