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

namespace {
struct Copy {
  void* target;
  const void* source;
  size_t bytes;
};
}  // namespace

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

// On the default stream: where another thread captures a stream that waits for it, that is an error.
cudaError_t cudaMemcpy(void* target, const void* source, size_t bytes, cudaMemcpyKind) {
  cuda_cpu::finish();
  if (cuda_cpu::captures_elsewhere) return cudaErrorStreamCaptureImplicit;
  if (++cuda_cpu::calls.copies == cuda_cpu::calls.failing_copy) return cudaErrorInvalidValue;
  std::memcpy(target, source, bytes);
  return cudaSuccess;
}

// A stream of one's own, for programs without cuda_cpu_streams.cc: a copy is there when it has been waited for.
__attribute__((weak)) cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned flags) {
  *stream = reinterpret_cast<cudaStream_t>(std::calloc(1, sizeof(Copy)));
  return flags == cudaStreamNonBlocking ? cudaSuccess : cudaErrorInvalidValue;
}
__attribute__((weak)) cudaError_t cudaMemcpyAsync(void* target, const void* source, size_t bytes, cudaMemcpyKind,
                                                  cudaStream_t stream) {
  if (++cuda_cpu::calls.copies == cuda_cpu::calls.failing_copy) return cudaErrorInvalidValue;
  *reinterpret_cast<Copy*>(stream) = {target, source, bytes};
  return cudaSuccess;
}
__attribute__((weak)) cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  const Copy& copy = *reinterpret_cast<Copy*>(stream);
  if (copy.target) std::memcpy(copy.target, copy.source, copy.bytes);
  return cudaSuccess;
}
__attribute__((weak)) cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  std::free(stream);
  return cudaSuccess;
}

const char* cudaGetErrorString(cudaError_t) { return "injected"; }

}  // extern "C"
