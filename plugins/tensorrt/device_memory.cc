#include "device_memory.h"

#include <algorithm>

namespace apa {

DeviceMemory::~DeviceMemory() { release(); }

void DeviceMemory::release() {
  if (data_) cudaFree(data_);  // fails only where the driver is gone, and the memory with it
  data_ = nullptr;
  held_.clear();
}

cudaError_t DeviceMemory::hold(const unsigned char* bytes, size_t size) {
  const bool same = data_ && held_.size() == size && std::equal(held_.begin(), held_.end(), bytes);
  if (same) return cudaSuccess;
  release();
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
