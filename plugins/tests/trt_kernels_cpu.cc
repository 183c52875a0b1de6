// The kernels of the GPU libraries, compiled for the CPU.
#include "cuda_cpu.h"

#include <utility>

#include "cuda_cpu_turns.h"
#include "cuda_errors.h"
#include "kernels.cu"  // the product's own sources
#include "kernels_codes.cu"

namespace apa {

float Approximate::exp2(float x) { return cuda_errors::exp2(x); }
float Approximate::log2(float x) { return cuda_errors::log2(x); }

void take_turn(bool dependent) {
  if (dependent) cuda_cpu::wait_for_grid_before();
}

template <class... Wanted, class... Given>
cudaError_t launch(void (*kernel)(bool, Wanted...), int64_t blocks, cudaStream_t stream, bool dependent,
                   Given... given) {
  cuda_cpu::last_stream = stream;
  if (blocks < 1 || blocks > INT32_MAX) return cudaErrorInvalidConfiguration;
  if (auto* graph = cuda_cpu::graph_of ? cuda_cpu::graph_of(stream) : nullptr) {
    graph->push_back([=] { launch<Wanted...>(kernel, blocks, nullptr, dependent, given...); });
    return cudaSuccess;
  }
  if (cuda_cpu::late) {
    cuda_cpu::put_off(dependent, [=] {
      cuda_cpu::run_grid(static_cast<unsigned>(blocks), kThreads, [&] { kernel(dependent, given...); });
    });
    return cudaSuccess;
  }
  const std::lock_guard<std::mutex> alone(cuda_cpu::one_grid);
  const auto body = [&] { kernel(dependent, given...); };  // by reference: a launch must not allocate
  cuda_cpu::run_grid(static_cast<unsigned>(blocks), kThreads, std::ref(body));
  return cudaSuccess;
}

template <class... Wanted>
cudaError_t find_code(void (*)(Wanted...), int& capability) {
  capability = cuda_cpu::code;
  return cudaSuccess;
}

}  // namespace apa
