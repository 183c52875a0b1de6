// Constant bytes on the device, uploaded when they change.
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

  // Makes `data` hold these values. The same values again cost a comparison and nothing on the device;
  // others wait for the device, because a kernel in flight may still read the old ones.
  template <class T>
  cudaError_t hold(const std::vector<T>& values) {
    return hold(reinterpret_cast<const unsigned char*>(values.data()), values.size() * sizeof(T));
  }

  const void* data() const { return data_; }

 private:
  cudaError_t hold(const unsigned char* bytes, size_t size);
  void release();

  void* data_ = nullptr;
  std::vector<unsigned char> held_;
};

}  // namespace apa

#endif  // APA_TENSORRT_DEVICE_MEMORY_H
