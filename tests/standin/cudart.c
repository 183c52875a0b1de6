// The runtime (libcudart.so), as Polygraphy's own runner calls it, over the driver beside it: for code of users. What is
// ours runs on a machine without it.
#include <stddef.h>
#include <stdint.h>

int cuMemAlloc_v2(uintptr_t* at, size_t size);
int cuMemFree_v2(uintptr_t at);
int cuStreamCreate(void** made, unsigned flags);
int cuStreamDestroy_v2(void* on);
int cuStreamSynchronize(void* on);
int cuMemcpyHtoDAsync_v2(uintptr_t to, const void* from, size_t size, void* on);
int cuMemcpyDtoHAsync_v2(void* to, uintptr_t from, size_t size, void* on);

int cudaMalloc(uintptr_t* at, size_t size) { return cuMemAlloc_v2(at, size ? size : 1); }
int cudaFree(uintptr_t at) { return at ? cuMemFree_v2(at) : 0; }
int cudaStreamCreate(void** made) { return cuStreamCreate(made, 0); }
int cudaStreamDestroy(void* on) { return cuStreamDestroy_v2(on); }
int cudaStreamSynchronize(void* on) { return cuStreamSynchronize(on); }
int cudaMemcpyAsync(void* to, const void* from, size_t size, int kind, void* on) {  // 1: to the device, 2: from it
  return kind == 1 ? cuMemcpyHtoDAsync_v2((uintptr_t)to, from, size, on)
                   : cuMemcpyDtoHAsync_v2(to, (uintptr_t)from, size, on);
}
int cudaMemcpy(void* to, const void* from, size_t size, int kind) {
  void* on;
  int error = cuStreamCreate(&on, 0);
  if (!error) error = cudaMemcpyAsync(to, from, size, kind, on);
  return cuStreamDestroy_v2(on) | error;
}
