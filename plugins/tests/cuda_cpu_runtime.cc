// The six calls of the CUDA runtime that the plugin makes, on host memory. Counts them and fails on request.
#include "cuda_cpu_runtime.h"

#include <cstdlib>
#include <cstring>

namespace cuda_cpu {
Calls calls;
cudaError_t failing = cudaSuccess;
}  // namespace cuda_cpu

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  cuda_cpu::calls.device++;
  return cuda_cpu::failing;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrMultiProcessorCount ? 2 : 0;
  return cudaSuccess;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  cuda_cpu::calls.allocations++;
  const cudaError_t error = cuda_cpu::calls.allocations == cuda_cpu::calls.failing_allocation
                                ? cudaErrorMemoryAllocation
                                : cudaSuccess;
  if (error == cudaSuccess && posix_memalign(memory, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  return error;
}

cudaError_t cudaFree(void* memory) {
  cuda_cpu::calls.frees++;
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind) {
  if (++cuda_cpu::calls.copies == cuda_cpu::calls.failing_copy) return cudaErrorInvalidValue;
  std::memcpy(target, source, bytes);
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t) { return "injected"; }

}  // extern "C"
