// Constant bytes on the device.
#ifndef APA_TENSORRT_DEVICE_MEMORY_H
#define APA_TENSORRT_DEVICE_MEMORY_H

#include <cuda_runtime_api.h>

#include <cstddef>
#include <vector>

namespace apa {

class DeviceMemory {
 public:
  DeviceMemory() = default;
  ~DeviceMemory();
  DeviceMemory(const DeviceMemory&) = delete;
  DeviceMemory& operator=(const DeviceMemory&) = delete;

  // Makes `data` hold these values; nothing where that fails. Others before them are let go, which waits for the device.
  template <class T>
  cudaError_t hold(const std::vector<T>& values) {
    return hold(values.data(), values.size() * sizeof(T));
  }

  const void* data() const { return data_; }

 private:
  cudaError_t hold(const void* bytes, size_t size);
  void release();

  void* data_ = nullptr;
};

}  // namespace apa

#endif  // APA_TENSORRT_DEVICE_MEMORY_H
