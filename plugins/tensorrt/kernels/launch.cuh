// Starts a kernel and returns CUDA's own answer: no global error state is read or cleared.
#ifndef APA_TENSORRT_LAUNCH_CUH
#define APA_TENSORRT_LAUNCH_CUH

#include <cuda_runtime.h>

#include <tuple>

#include "kernels/scalar.cuh"

namespace apa {

// `dependent`: as soon as the grid before it in the stream lets it, captured graphs included. The kernel has to wait.
inline cudaError_t start(const void* kernel, int64_t blocks, cudaStream_t stream, bool dependent, void** arguments) {
  const dim3 grid(static_cast<unsigned>(blocks)), block(kThreads);
  if (!dependent) return cudaLaunchKernel(kernel, grid, block, arguments, 0, stream);
  cudaLaunchAttribute early{};
  early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  early.val.programmaticStreamSerializationAllowed = 1;
  const cudaLaunchConfig_t config{grid, block, 0, stream, &early, 1};
  return cudaLaunchKernelExC(&config, kernel, arguments);
}

// The kernel's first argument is `dependent`: what it does and how it is launched cannot differ.
#if defined(__CUDACC__)
template <class... Wanted, class... Given>
cudaError_t launch(void (*kernel)(bool, Wanted...), int64_t blocks, cudaStream_t stream, bool dependent,
                   Given... given) {
  std::tuple<bool, Wanted...> arguments(dependent, given...);
  return std::apply(
      [&](auto&... argument) {
        void* pointers[] = {&argument...};
        return start(reinterpret_cast<const void*>(kernel), blocks, stream, dependent, pointers);
      },
      arguments);
}

// The compute capability that a kernel's code for the current device was compiled for, such as 90.
template <class... Wanted>
cudaError_t find_code(void (*kernel)(Wanted...), int& capability) {
  cudaFuncAttributes found{};
  const cudaError_t error = cudaFuncGetAttributes(&found, reinterpret_cast<const void*>(kernel));
  capability = found.ptxVersion;
  return error;
}
#else  // run on a CPU: the test defines both, the one as loops
template <class... Wanted, class... Given>
cudaError_t launch(void (*kernel)(bool, Wanted...), int64_t blocks, cudaStream_t stream, bool dependent,
                   Given... given);
template <class... Wanted>
cudaError_t find_code(void (*kernel)(Wanted...), int& capability);
#endif

}  // namespace apa

#endif  // APA_TENSORRT_LAUNCH_CUH
