// The kernels whose results are of the input's type. Every GPU library has these.
#include "kernels/dispatch.cuh"

namespace apa {

cudaError_t can_depend(bool& can) {
  int capability = 0;
  const cudaError_t error = find_code(clear_padding<float>, capability);
  can = error == cudaSuccess && capability >= kWaitsFrom;
  return error;
}

cudaError_t run(const Job& job, const void* x, void* y, cudaStream_t stream) {
  return run_by_element(job, [&](auto element) {
    using T = decltype(element);
    return run_as(Run<T, T>{job, static_cast<const T*>(x), static_cast<T*>(y), stream, {}});
  });
}

}  // namespace apa
