#include "device_memory.h"

namespace apa {
namespace {

// While another thread captures a CUDA graph, allocating would be refused and would end its capture.
struct BesideCaptures {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  BesideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode); }
  ~BesideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode); }
};

// Done when it returns. Not cudaMemcpy: from ordinary memory it may return before the bytes are there, and a stream that
// does not wait for the default one would read what was there before; and beside a stream that is captured and does wait
// for the default one it is refused, and ends that capture.
cudaError_t upload(void* target, const void* source, size_t size) {
  cudaStream_t own = nullptr;
  cudaError_t error = cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking);
  if (error != cudaSuccess) return error;
  error = cudaMemcpyAsync(target, source, size, cudaMemcpyHostToDevice, own);
  const cudaError_t end = cudaStreamSynchronize(own);
  cudaStreamDestroy(own);
  return error == cudaSuccess ? end : error;
}

}  // namespace

DeviceMemory::~DeviceMemory() { release(); }

void DeviceMemory::release() {
  const BesideCaptures beside;
  if (data_) cudaFree(data_);  // fails only where the driver is gone, and the memory with it
  data_ = nullptr;
}

cudaError_t DeviceMemory::hold(const void* bytes, size_t size) {
  release();
  const BesideCaptures beside;
  cudaError_t error = cudaMalloc(&data_, size);
  if (error == cudaSuccess) error = upload(data_, bytes, size);
  if (error != cudaSuccess) release();
  return error;
}

}  // namespace apa
