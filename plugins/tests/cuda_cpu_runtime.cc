// The calls of the CUDA runtime that our libraries make, on host memory. Counts them and fails on request.
#include "cuda_cpu_runtime.h"

#include <cstdlib>
#include <cstring>
#include <utility>

#ifndef CAPTURES_ELSEWHERE  // false for programs of one thread
#define CAPTURES_ELSEWHERE true
#endif

namespace cuda_cpu {
Calls calls;
thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
bool captures_elsewhere = CAPTURES_ELSEWHERE;
cudaError_t failing = cudaSuccess;
}  // namespace cuda_cpu

extern "C" {

cudaError_t cudaGetDevice(int* device) {
  *device = cuda_cpu::calls.current;
  cuda_cpu::calls.device++;
  return cuda_cpu::failing;
}

cudaError_t cudaSetDevice(int device) {
  cuda_cpu::calls.others++;
  cuda_cpu::calls.current = device;
  return cuda_cpu::failing;
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  cuda_cpu::calls.others++;
  std::swap(*mode, cuda_cpu::mode);
  return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  cuda_cpu::calls.others++;
  *value = attribute == cudaDevAttrMultiProcessorCount ? 2 : 0;
  return cuda_cpu::failing;
}

cudaError_t cudaMalloc(void** memory, size_t bytes) {
  cuda_cpu::calls.allocations++;
  cuda_cpu::calls.where = cuda_cpu::calls.current;
  const bool refused = cuda_cpu::captures_elsewhere && cuda_cpu::mode != cudaStreamCaptureModeRelaxed;
  if (refused) return cudaErrorStreamCaptureUnsupported;
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
  cuda_cpu::finish();
  if (++cuda_cpu::calls.copies == cuda_cpu::calls.failing_copy) return cudaErrorInvalidValue;
  std::memcpy(target, source, bytes);
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t) { return "injected"; }

}  // extern "C"
