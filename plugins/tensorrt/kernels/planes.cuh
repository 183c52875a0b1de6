// Per-channel parameters where a channel's elements lie side by side (NCHW: a plane). A pack that lies whole in its
// plane needs one lookup and one regime; those that a plane ends in are left to a second loop, one a plane.
#ifndef APA_TENSORRT_PLANES_CUH
#define APA_TENSORRT_PLANES_CUH

#include "kernels/spans.cuh"

namespace apa {

// Requires: walk.lanes == 1 and walk.span >= Pack<T>::kSize, so that at most one plane ends in a pack.
// `stride` and `stride_one` as for apply_spans.
template <Kind kKind, class T, class To>
__global__ void __launch_bounds__(kThreads)
    apply_planes(bool dependent, const T* x, To* y, int64_t packs, int64_t count, Walk walk, Step stride, Step stride_one,
                 const Channel* channels, Narrowed<To> to) {
  using Small = OneRegime<kKind, Regime::Small>;
  using Large = OneRegime<kKind, Regime::Large>;
  take_turn(dependent);
  constexpr int kSize = Pack<T>::kSize;
  const int64_t me = thread_number();
  Cursor cursor{walk, step_of(walk, me * kSize)};
  for (int64_t i = me; i < packs; i += thread_count(), cursor.move(stride)) {
    if (cursor.at.offset + kSize > walk.span) continue;
    const Pack<T> pack = packs_of(x)[i];
    const Channel channel = channels[cursor.at.groups];
    results_of<T>(y)[i] = channel.regime == Regime::Small ? applied_to_all<Small>(pack, channel.unfolded(), to)
                                                          : applied_to_all<Large>(pack, channel.unfolded(), to);
  }
  using Function = AnyRegime<kKind>;
  const int64_t whole = packs * kSize;
  for (int64_t plane = me + 1; plane * walk.span < whole; plane += thread_count()) {
    const int64_t end = plane * walk.span, start = end / kSize * kSize;
    const Channel before = channels[(plane - 1) % walk.groups], after = channels[plane % walk.groups];
    for (int64_t k = start; k < start + (end > start ? kSize : 0); k++) {
      y[k] = applied<Function>(x[k], (k < end ? before : after).unfolded(), to);
    }
  }
  Cursor tail{walk, step_of(walk, whole + me)};
  for (int64_t k = whole + me; k < count; k += thread_count(), tail.move(stride_one)) {
    y[k] = applied<Function>(x[k], channels[tail.at.groups].unfolded(), to);
  }
}

}  // namespace apa

#endif  // APA_TENSORRT_PLANES_CUH
