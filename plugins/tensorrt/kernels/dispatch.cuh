// Chooses the kernel for a job and sizes its grid. Each source that includes this holds the kernels for the results that
// it asks for: kernels.cu those of the input's type, kernels_codes.cu int8 codes.
#ifndef APA_TENSORRT_DISPATCH_CUH
#define APA_TENSORRT_DISPATCH_CUH

#include <algorithm>
#include <numeric>

#include "kernels.h"
#include "kernels/lanes.cuh"
#include "kernels/launch.cuh"
#include "kernels/padding.cuh"
#include "kernels/planes.cuh"
#include "kernels/scalar.cuh"
#include "kernels/spans.cuh"

namespace apa {

constexpr int64_t kBlocksPerProcessor = 8;

template <class T, class To>
struct Run {
  const Job& job;
  const T* x;
  To* y;
  cudaStream_t stream;
  Narrowed<To> to;
  int64_t count = job.layout.count;
  int64_t packs = aligned() ? count / Pack<T>::kSize : 0;

  bool aligned() const {
    return reinterpret_cast<uintptr_t>(x) % kPackBytes == 0 && reinterpret_cast<uintptr_t>(y) % sizeof(Results<T, To>) == 0;
  }
  // A thread for every pack (or element, where there are no packs), as long as the device has room.
  int64_t blocks(int64_t work) const {
    const int64_t wanted = (work + kThreads - 1) / kThreads;
    return std::max<int64_t>(1, std::min(wanted, kBlocksPerProcessor * job.processors));
  }
  int64_t blocks() const { return blocks(std::max(packs, count - packs * Pack<T>::kSize)); }
};

template <class Function, class T, class To>
cudaError_t run_scalar(const Run<T, To>& r) {
  return launch(apply_scalar<Function, T, To>, r.blocks(), r.stream, r.job.dependent, r.x, r.y, r.packs, r.count,
                r.job.scalar, r.to);
}

template <Kind kKind, class T, class To>
cudaError_t run_scalar_of(const Run<T, To>& r) {
  return r.job.scalar.regime == Regime::Small ? run_scalar<OneRegime<kKind, Regime::Small>>(r)
                                              : run_scalar<OneRegime<kKind, Regime::Large>>(r);
}

// Rounds the grid up until a stride over it is a whole number of rows of channels.
inline int64_t whole_rows(int64_t blocks, int64_t lanes, int64_t pack) {
  const int64_t period = lanes / std::gcd(lanes, kThreads * pack);
  return (blocks + period - 1) / period * period;
}

template <Kind kKind, class T, class To>
cudaError_t run_lanes(const Run<T, To>& r) {
  const int32_t lanes = r.job.layout.walk.groups;
  const int64_t blocks = whole_rows(r.blocks(), lanes, Pack<T>::kSize);
  return launch(apply_lanes<AnyRegime<kKind>, T, To>, blocks, r.stream, r.job.dependent, r.x, r.y, r.packs, r.count,
                lanes, r.job.channels, r.to);
}

// A kernel that moves through the layout: apply_planes or apply_spans.
template <class Kernel, class T, class To>
cudaError_t run_walk(Kernel kernel, const Run<T, To>& r) {
  const Walk& walk = r.job.layout.walk;
  const int64_t blocks = r.blocks(), threads = blocks * kThreads;
  return launch(kernel, blocks, r.stream, r.job.dependent, r.x, r.y, r.packs, r.count, walk,
                step_of(walk, threads * Pack<T>::kSize), step_of(walk, threads), r.job.channels, r.to);
}

template <Kind kKind, class T, class To>
cudaError_t run_kind(const Run<T, To>& r) {
  if (!r.job.per_channel) return run_scalar_of<kKind>(r);
  const Walk& walk = r.job.layout.walk;
  if (walk.span == 1) return run_lanes<kKind>(r);
  if (walk.lanes == 1 && walk.span >= Pack<T>::kSize) return run_walk(apply_planes<kKind, T, To>, r);
  return run_walk(apply_spans<AnyRegime<kKind>, T, To>, r);
}

template <class T, class To>
cudaError_t run_clearing(const Run<T, To>& r) {
  const Padding& padding = r.job.layout.padding;
  const int64_t rows = r.count / padding.lanes / padding.groups;
  const int64_t cells = rows * (padding.lanes - padding.keep);
  return launch(clear_padding<To>, r.blocks(cells), r.stream, r.job.dependent, r.y, cells, padding);
}

template <class T, class To>
cudaError_t run_as(const Run<T, To>& r) {
  const bool gate = r.job.kind == Kind::Gate;
  const cudaError_t error = gate ? run_kind<Kind::Gate>(r) : run_kind<Kind::Unit>(r);
  return error == cudaSuccess && gate && r.job.layout.padding.any() ? run_clearing(r) : error;
}

// run_typed(T{}), T being the type of the job's elements; nothing where there are none.
template <class RunTyped>
cudaError_t run_by_element(const Job& job, RunTyped run_typed) {
  if (job.layout.count == 0) return cudaSuccess;
  switch (job.element) {
    case Element::Float32: return run_typed(float{});
    case Element::Float16: return run_typed(__half{});
    case Element::Bfloat16: return run_typed(__nv_bfloat16{});
  }
  return cudaErrorInvalidValue;
}

}  // namespace apa

#endif  // APA_TENSORRT_DISPATCH_CUH
