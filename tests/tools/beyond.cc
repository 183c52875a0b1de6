// In the kernels' place: writes one byte beyond the tensor. The guards of device/copies.cc must see it.
#include <cuda_runtime_api.h>

#include "activation.h"
#include "layout.h"

#define run run_resident
#include "kernels.h"
#undef run

namespace apa {
namespace {

cudaError_t write_beyond(const Job& job, int64_t bytes, void* y) {
  static_cast<unsigned char*>(y)[job.layout.count * bytes] = 0;
  return cudaSuccess;
}

}  // namespace

cudaError_t run_resident(const Job& job, const void*, void* y, cudaStream_t) {
  return write_beyond(job, bytes_of(job.element), y);
}

cudaError_t run_resident(const Job& job, float, const void*, void* y, cudaStream_t) { return write_beyond(job, 1, y); }
}  // namespace apa
