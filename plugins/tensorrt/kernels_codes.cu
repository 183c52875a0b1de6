// The kernels whose results are int8 codes. As large as those of kernels.cu, and for the TensorRT plugin alone.
#include "kernels/dispatch.cuh"

namespace apa {

cudaError_t run(const Job& job, float scale, const void* x, void* y, cudaStream_t stream) {
  const auto to = Narrowed<int8_t>::of(scale);
  return run_by_element(job, [&](auto element) {
    using T = decltype(element);
    return run_as(Run<T, int8_t>{job, static_cast<const T*>(x), static_cast<int8_t*>(y), stream, to});
  });
}

}  // namespace apa
