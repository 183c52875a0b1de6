// Starts a kernel and returns CUDA's own answer: no global error state is read or cleared.
#ifndef APA_TENSORRT_LAUNCH_CUH
#define APA_TENSORRT_LAUNCH_CUH

#include <cuda_runtime.h>

#include <tuple>

#include "kernels/scalar.cuh"

namespace apa {

#if defined(__CUDACC__)
template <class... Wanted, class... Given>
cudaError_t launch(void (*kernel)(Wanted...), int64_t blocks, cudaStream_t stream, Given... given) {
  std::tuple<Wanted...> arguments(given...);
  return std::apply(
      [&](auto&... argument) {
        void* pointers[] = {&argument...};
        return cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(static_cast<unsigned>(blocks)),
                                dim3(kThreads), pointers, 0, stream);
      },
      arguments);
}
#else  // run on a CPU: the test defines it, as loops
template <class... Wanted, class... Given>
cudaError_t launch(void (*kernel)(Wanted...), int64_t blocks, cudaStream_t stream, Given... given);
#endif

}  // namespace apa

#endif  // APA_TENSORRT_LAUNCH_CUH
