// Per-channel parameters in any layout (layout.h, Walk). A thread knows the span it is in and moves on
// without a division: the grid's stride is given in whole groups and what remains.
#ifndef APA_TENSORRT_SPANS_CUH
#define APA_TENSORRT_SPANS_CUH

#include "kernels/scalar.cuh"
#include "layout.h"

namespace apa {

// A distance of `elements` in a walk: this many groups (modulo groups) and then this many elements.
struct Step {
  int64_t offset;
  int32_t groups;
};

APA_HOST_DEVICE Step step_of(const Walk& walk, int64_t elements) {
  return {elements % walk.span, static_cast<int32_t>(elements / walk.span % walk.groups)};
}

// Where an element lies: in which group, how far into its span.
struct Cursor {
  Walk walk;
  Step at;

  __device__ __forceinline__ void move(const Step& by) {
    at.offset += by.offset;
    at.groups += by.groups;
    if (at.offset >= walk.span) {
      at.offset -= walk.span;
      at.groups++;
    }
    if (at.groups >= walk.groups) at.groups -= walk.groups;
  }
  __device__ __forceinline__ int64_t channel() const {
    return static_cast<int64_t>(at.groups) * walk.lanes + (at.offset & (walk.lanes - 1));
  }
};

// `stride` is step_of(walk, thread_count() * Pack<T>::kSize), `stride_one` step_of(walk, thread_count()).
template <class Function, class T, class To>
__global__ void __launch_bounds__(kThreads)
    apply_spans(bool dependent, const T* x, To* y, int64_t packs, int64_t count, Walk walk, Step stride, Step stride_one,
                const Channel* channels, Narrowed<To> to) {
  take_turn(dependent);
  const int64_t me = thread_number();
  Cursor pack_start{walk, step_of(walk, me * Pack<T>::kSize)};
  for (int64_t i = me; i < packs; i += thread_count(), pack_start.move(stride)) {
    const Pack<T> pack = packs_of(x)[i];
    Results<T, To> results;
    Cursor cursor = pack_start;
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; j++, cursor.move({1, 0})) {
      results.at[j] = applied<Function>(pack.at[j], channels[cursor.channel()].unfolded(), to);
    }
    results_of<T>(y)[i] = results;
  }
  const int64_t tail = packs * Pack<T>::kSize;
  Cursor cursor{walk, step_of(walk, tail + me)};
  for (int64_t k = tail + me; k < count; k += thread_count(), cursor.move(stride_one)) {
    y[k] = applied<Function>(x[k], channels[cursor.channel()].unfolded(), to);
  }
}

}  // namespace apa

#endif  // APA_TENSORRT_SPANS_CUH
