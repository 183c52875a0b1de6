#include "device_memory.h"

#include <algorithm>

namespace apa {
namespace {

// While another thread captures a CUDA graph, allocating would be refused and would end its capture.
struct BesideCaptures {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
  BesideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode); }
  ~BesideCaptures() { cudaThreadExchangeStreamCaptureMode(&mode); }
};

}  // namespace

DeviceMemory::~DeviceMemory() { release(); }

void DeviceMemory::release() {
  const BesideCaptures beside;
  if (data_) cudaFree(data_);  // fails only where the driver is gone, and the memory with it
  data_ = nullptr;
  held_.clear();
}

cudaError_t DeviceMemory::hold(const unsigned char* bytes, size_t size) {
  const bool same = data_ && held_.size() == size && std::equal(held_.begin(), held_.end(), bytes);
  if (same) return cudaSuccess;
  release();
  const BesideCaptures beside;
  cudaError_t error = cudaMalloc(&data_, size);
  if (error == cudaSuccess) error = cudaMemcpy(data_, bytes, size, cudaMemcpyHostToDevice);
  if (error != cudaSuccess) {
    release();
    return error;
  }
  held_.assign(bytes, bytes + size);
  return cudaSuccess;
}

}  // namespace apa
