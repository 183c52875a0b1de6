// The built library without a GPU: what needs a device says so with CUDA's own code, and nothing crashes.
#include <cuda_runtime_api.h>

#include "trt_check.h"
#include "trt_harness.h"

namespace {

using namespace harness;

void no_device() {
  Said said;
  const Owned p = scalar();
  const auto desc = tensor({2, 8, 4, 4});
  float x[256] = {}, y[256];
  const void* sources[] = {x};
  void* targets[] = {y};
  const int32_t error = runtime(*p).onShapeChange(&desc, 1, &desc, 1);
  check::expect(error == cudaErrorInsufficientDriver || error == cudaErrorNoDevice, "onShapeChange answers %d", error);
  check::expect(said.has("cannot be prepared: "), "said: %s", said.text().c_str());
  check::expect(runtime(*p).enqueue(&desc, &desc, sources, targets, nullptr, nullptr) != 0, "enqueue without a device");
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"no_device", no_device}};
  return check::main_of(suites, argc, argv);
}
