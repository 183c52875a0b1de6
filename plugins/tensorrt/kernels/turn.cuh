// Programmatic dependent launch: from compute capability 9.0 a grid may start while the one before it in its stream runs.
#ifndef APA_TENSORRT_TURN_CUH
#define APA_TENSORRT_TURN_CUH

namespace apa {

// Lets the next grid of the stream start, and waits until the one before has ended and its memory is visible. Every
// thread calls it, before its first read of x and before its first write of y: the grid before may still write the one
// and read the other. What no grid writes, coefficients, may be read earlier. Safe without end: a grid has not ended
// before its threads have waited, so whoever waits for it waits for all before it. `dependent`: as it was launched.
#if defined(__CUDACC__)
__device__ __forceinline__ void take_turn(bool dependent) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if (!dependent) return;
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#else
  static_cast<void>(dependent);
#endif
}
#else  // run on a CPU: the test defines it
void take_turn(bool dependent);
#endif

// The lowest compute capability whose code waits.
constexpr int kWaitsFrom = 90;

}  // namespace apa

#endif  // APA_TENSORRT_TURN_CUH
