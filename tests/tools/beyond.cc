// In the kernels' place: writes one byte beyond the tensor. The guards of device/copies.cc must see it.
#include <cuda_runtime_api.h>

#include "activation.h"
#include "layout.h"

#define run run_resident
#include "kernels.h"
#undef run

namespace apa {
cudaError_t run_resident(const Job& job, const void*, void* y, cudaStream_t) {
  static_cast<unsigned char*>(y)[job.layout.count * (job.scale_out > 0 ? 1 : bytes_of(job.element))] = 0;
  return cudaSuccess;
}
}  // namespace apa
