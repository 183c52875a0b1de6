// Programmatic dependent launch: what the launch asks for, that no kernel touches memory before its turn, and that the
// plugin asks for it only where it is wanted and the kernels wait.
#include "cuda_cpu.h"

#include <cmath>
#include <cstdlib>
#include <vector>

#include "cuda_cpu_runtime.h"
#include "cuda_cpu_turns.h"
#include "formats.h"
#include "kernels.h"
#include "kernels/launch.cuh"
#include "trt_check.h"
#include "trt_harness.h"
#include "trt_reference.h"
#include "trt_tensor.h"

#undef gridDim
#undef blockDim

namespace {

using tensors::Tensor;

constexpr int kLinks = 6;

struct Case {
  apa::Kind kind;
  Tensor tensor;
  bool per_channel;
  std::string name() const { return tensor.name() + (per_channel ? " per channel" : " scalar"); }
};

apa::Parameters parameters_of(const Case& c) {
  apa::Parameters p;
  for (int64_t i = 0; i < (c.per_channel ? c.tensor.dims[1] : 1); i++) {
    p.lambda.push_back(i % 2 ? 0.7f : 0.1f), p.kappa.push_back(0.5f + 0.2f * static_cast<float>(i % 3));
  }
  return p;
}

// Elements in reverse: what somebody else's kernel does between ours. Whoever reads or writes around it out of turn shows.
template <class T>
void reverse(const std::vector<T>& from, std::vector<T>& to) {
  for (size_t i = 0; i < from.size(); i++) to[i] = from[from.size() - 1 - i];
}

// Back and forth between two buffers: each link reads what the one before writes, and writes what that one reads.
template <class T>
std::vector<T> chain(const Case& c, bool dependent, bool beside_others) {
  const apa::Parameters p = parameters_of(c);
  const std::vector<apa::Channel> channels = apa::channels_of(p);
  apa::Job job{};
  job.kind = c.kind;
  job.element = reference::Numbers<T>::kElement;
  job.per_channel = c.per_channel;
  job.layout = apa::layout_of(c.tensor.dims, *apa::format_of(c.tensor.format.format), 1);
  job.processors = 2;
  job.scalar = apa::coefficients<float>(p.lambda_of(0), p.kappa_of(0));
  job.channels = channels.data();
  job.dependent = dependent;
  std::vector<T> buffers[2];
  for (int64_t i = 0; i < job.layout.count; i++) {
    buffers[0].push_back(reference::number<T>(std::sin(static_cast<double>(i)) * 5));
    buffers[1].push_back(reference::number<T>(-777));
  }
  for (int i = 0; i < kLinks; i++) {
    std::vector<T>&x = buffers[i % 2], &y = buffers[1 - i % 2];
    if (beside_others && i % 3 == 1) {
      cuda_cpu::put_off(false, [&] { reverse(x, y); });
    } else {
      check::expect(apa::run(job, x.data(), y.data(), nullptr) == cudaSuccess, "%s: not run", c.name().c_str());
    }
  }
  cuda_cpu::finish();
  return buffers[kLinks % 2];
}

template <class T>
void check_chain(const Case& c) {
  for (bool beside_others : {false, true}) {
    cuda_cpu::late = false;
    const std::vector<T> wanted = chain<T>(c, false, false), same = chain<T>(c, true, false);
    cuda_cpu::late = true;
    cuda_cpu::waits = 0;
    const std::vector<T> plain = chain<T>(c, false, beside_others);
    check::expect(cuda_cpu::waits == 0, "%s: a plain launch waits", c.name().c_str());
    const std::vector<T> early = chain<T>(c, true, beside_others);
    check::expect(cuda_cpu::waits > 0, "%s: a dependent launch does not wait", c.name().c_str());
    const auto equal = [](const std::vector<T>& a, const std::vector<T>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
    };
    check::expect(equal(wanted, same), "%s: the flag changes the result", c.name().c_str());
    check::expect(beside_others || equal(wanted, plain), "%s: one after another", c.name().c_str());
    check::expect(equal(plain, early), "%s: out of turn, %zu bytes", c.name().c_str(), sizeof(T));
  }
}

void chains() {
  for (const auto& format : tensors::kFormats) {
    for (bool channels : {false, true}) {
      for (apa::Kind kind : {apa::Kind::Unit, apa::Kind::Gate}) {
        const Case c{kind, {format, {2, 5, 9, 7}}, channels};
        check_chain<float>(c);
        check_chain<__half>(c);
      }
    }
  }
  cuda_cpu::late = false;
}

struct {
  int plain = 0, early = 0;
  cudaLaunchConfig_t config{};
  cudaLaunchAttribute attribute{};
  dim3 grid, block;
  cudaStream_t stream = nullptr;
  void** arguments = nullptr;
} seen;

// The plain launch is the call that it was; the other differs from it by one attribute.
void launches() {
  int kernel = 0, argument = 0;
  void* arguments[] = {&argument};
  const auto stream = reinterpret_cast<cudaStream_t>(&argument);
  check::expect(apa::start(&kernel, 7, stream, false, arguments) == cudaErrorInvalidValue, "CUDA's answer");
  check::expect(seen.plain == 1 && seen.early == 0, "%d plain launches, %d others", seen.plain, seen.early);
  check::expect(seen.grid.x == 7 && seen.block.x == apa::kThreads && seen.stream == stream, "a plain launch");
  check::expect(apa::start(&kernel, 9, stream, true, arguments) == cudaErrorNotSupported, "CUDA's answer");
  check::expect(seen.plain == 1 && seen.early == 1, "%d plain launches, %d others", seen.plain, seen.early);
  const cudaLaunchConfig_t& config = seen.config;
  check::expect(config.gridDim.x == 9 && config.gridDim.y == 1 && config.blockDim.x == apa::kThreads &&
                    config.blockDim.z == 1 && config.dynamicSmemBytes == 0 && config.stream == stream &&
                    seen.arguments == arguments,
                "a dependent launch");
  check::expect(config.numAttrs == 1 && seen.attribute.id == cudaLaunchAttributeProgrammaticStreamSerialization &&
                    seen.attribute.val.programmaticStreamSerializationAllowed == 1,
                "its attribute");
}

// How often the kernels of one layer wait, where the library holds code for this compute capability.
int waits_of_a_layer(int code) {
  using namespace harness;
  cuda_cpu::code = code;
  cuda_cpu::waits = 0;
  const Owned p = scalar();
  const auto desc = tensor({2, 8, 4, 4});
  float x[256] = {}, y[256];
  const void* sources[] = {x};
  void* targets[] = {y};
  const bool ran = runtime(*p).onShapeChange(&desc, 1, &desc, 1) == 0 &&
                   runtime(*p).enqueue(&desc, &desc, sources, targets, nullptr, nullptr) == 0;
  check::expect(ran, "not run");
  return cuda_cpu::waits;
}

// APA_DEPENDENT_LAUNCH as this program was started with it.
void plugin() {
  for (int code : {75, 89, 90, 120}) {
    bool can = code < 90;
    cuda_cpu::code = code;
    check::expect(apa::can_depend(can) == cudaSuccess && can == (code >= 90), "code of %d", code);
  }
  const char* set = std::getenv("APA_DEPENDENT_LAUNCH");
  const bool wanted = set && std::strcmp(set, "1") == 0;
  check::expect(waits_of_a_layer(80) == 0, "it waits with code that cannot");
  check::expect((waits_of_a_layer(90) > 0) == wanted, "APA_DEPENDENT_LAUNCH=%s", set ? set : "");
  check::expect((waits_of_a_layer(120) > 0) == wanted, "APA_DEPENDENT_LAUNCH=%s", set ? set : "");
}

}  // namespace

extern "C" cudaError_t cudaLaunchKernel(const void*, dim3 grid, dim3 block, void** arguments, size_t,
                                        cudaStream_t stream) {
  seen.plain++, seen.grid = grid, seen.block = block, seen.stream = stream, seen.arguments = arguments;
  return cudaErrorInvalidValue;
}
extern "C" cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t* config, const void*, void** arguments) {
  seen.early++, seen.config = *config, seen.attribute = config->attrs[0], seen.arguments = arguments;
  return cudaErrorNotSupported;
}

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"chains", chains}, {"launches", launches}, {"plugin", plugin}};
  return check::main_of(suites, argc, argv);
}
