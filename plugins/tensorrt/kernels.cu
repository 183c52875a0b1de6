// Chooses the kernel for a job and sizes its grid.
#include "kernels.h"

#include <algorithm>
#include <numeric>

#include "kernels/lanes.cuh"
#include "kernels/launch.cuh"
#include "kernels/padding.cuh"
#include "kernels/planes.cuh"
#include "kernels/scalar.cuh"
#include "kernels/spans.cuh"
#include "kernels/table.cuh"

namespace apa {
namespace {

constexpr int64_t kBlocksPerProcessor = 8;

template <class T>
struct Run {
  const Job& job;
  const T* x;
  T* y;
  cudaStream_t stream;
  int64_t count = job.layout.count;
  int64_t packs = aligned() ? count / Pack<T>::kSize : 0;

  bool aligned() const {
    return (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y)) % kPackBytes == 0;
  }
  // A thread for every pack (or element, where there are no packs), as long as the device has room.
  int64_t blocks(int64_t work) const {
    const int64_t wanted = (work + kThreads - 1) / kThreads;
    return std::max<int64_t>(1, std::min(wanted, kBlocksPerProcessor * job.processors));
  }
  int64_t blocks() const { return blocks(std::max(packs, count - packs * Pack<T>::kSize)); }
};

template <class Function, class T>
cudaError_t run_scalar(const Run<T>& r) {
  return launch(apply_scalar<Function, T>, r.blocks(), r.stream, r.job.dependent, r.x, r.y, r.packs, r.count, r.job.scalar);
}

template <Kind kKind, class T>
cudaError_t run_scalar_of(const Run<T>& r) {
  return r.job.scalar.regime == Regime::Small ? run_scalar<OneRegime<kKind, Regime::Small>>(r)
                                              : run_scalar<OneRegime<kKind, Regime::Large>>(r);
}

// Rounds the grid up until a stride over it is a whole number of rows of channels.
int64_t whole_rows(int64_t blocks, int64_t lanes, int64_t pack) {
  const int64_t period = lanes / std::gcd(lanes, kThreads * pack);
  return (blocks + period - 1) / period * period;
}

template <Kind kKind, class T>
cudaError_t run_lanes(const Run<T>& r) {
  const int32_t lanes = r.job.layout.walk.groups;
  const int64_t blocks = whole_rows(r.blocks(), lanes, Pack<T>::kSize);
  return launch(apply_lanes<AnyRegime<kKind>, T>, blocks, r.stream, r.job.dependent, r.x, r.y, r.packs, r.count, lanes,
                static_cast<const Channel*>(r.job.device_table));
}

template <class Lookup, class T>
cudaError_t run_spans(const Run<T>& r, Lookup lookup) {
  const Walk& walk = r.job.layout.walk;
  const int64_t blocks = r.blocks(), threads = blocks * kThreads;
  return launch(apply_spans<Lookup, T>, blocks, r.stream, r.job.dependent, r.x, r.y, r.packs, r.count, walk,
                step_of(walk, threads * Pack<T>::kSize), step_of(walk, threads), lookup);
}

template <Kind kKind, class T>
cudaError_t run_planes(const Run<T>& r) {
  const Walk& walk = r.job.layout.walk;
  const int64_t blocks = r.blocks(), threads = blocks * kThreads;
  return launch(apply_planes<kKind, T>, blocks, r.stream, r.job.dependent, r.x, r.y, r.packs, r.count, walk,
                step_of(walk, threads * Pack<T>::kSize), step_of(walk, threads),
                static_cast<const Channel*>(r.job.device_table));
}

template <Kind kKind, class T>
cudaError_t run_kind(const Run<T>& r) {
  if (!r.job.per_channel) return run_scalar_of<kKind>(r);
  const Walk& walk = r.job.layout.walk;
  if (walk.span == 1) return run_lanes<kKind>(r);
  if (walk.lanes == 1 && walk.span >= Pack<T>::kSize) return run_planes<kKind>(r);
  using Lookup = ByCoefficients<AnyRegime<kKind>, T>;
  return run_spans(r, Lookup{static_cast<const Channel*>(r.job.device_table)});
}

template <class T>
cudaError_t run_activation(const Run<T>& r) {
  return r.job.kind == Kind::Gate ? run_kind<Kind::Gate>(r) : run_kind<Kind::Unit>(r);
}

cudaError_t run_activation(const Run<int8_t>& r) {
  if (r.job.per_channel) return run_spans(r, ByTable{static_cast<const ByteTable*>(r.job.device_table)});
  return launch(apply_table, r.blocks(), r.stream, r.job.dependent, r.x, r.y, r.packs, r.count, r.job.table);
}

template <class T>
cudaError_t run_clearing(const Run<T>& r) {
  const Padding& padding = r.job.layout.padding;
  const int64_t rows = r.count / padding.lanes / padding.groups;
  const int64_t cells = rows * (padding.lanes - padding.keep);
  return launch(clear_padding<T>, r.blocks(cells), r.stream, r.job.dependent, r.y, cells, padding);
}

template <class T>
cudaError_t run_as(const Job& job, const void* x, void* y, cudaStream_t stream) {
  const Run<T> r{job, static_cast<const T*>(x), static_cast<T*>(y), stream};
  const cudaError_t error = run_activation(r);
  const bool clear = job.kind == Kind::Gate && job.layout.padding.any();
  return error == cudaSuccess && clear ? run_clearing(r) : error;
}

}  // namespace

cudaError_t can_depend(bool& can) {
  int capability = 0;
  const cudaError_t error = find_code(clear_padding<float>, capability);
  can = error == cudaSuccess && capability >= kWaitsFrom;
  return error;
}

cudaError_t run(const Job& job, const void* x, void* y, cudaStream_t stream) {
  if (job.layout.count == 0) return cudaSuccess;
  switch (job.element) {
    case Element::Float32: return run_as<float>(job, x, y, stream);
    case Element::Float16: return run_as<__half>(job, x, y, stream);
    case Element::Bfloat16: return run_as<__nv_bfloat16>(job, x, y, stream);
    case Element::Int8: return run_as<int8_t>(job, x, y, stream);
  }
  return cudaErrorInvalidValue;
}

}  // namespace apa
