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

// What a kernel looks up for a channel: coefficients for the float types, a table for int8.
template <class Function, class T>
struct ByCoefficients {
  const Channel* channels;
  __device__ __forceinline__ T at(T x, int64_t channel) const {
    return applied<Function>(x, channels[channel].unfolded());
  }
};

struct ByTable {
  const ByteTable* tables;
  __device__ __forceinline__ int8_t at(int8_t x, int64_t channel) const {
    return tables[channel].entry[static_cast<uint8_t>(x)];
  }
};

// `stride` is step_of(walk, thread_count() * Pack<T>::kSize), `stride_one` step_of(walk, thread_count()).
template <class Lookup, class T>
__global__ void __launch_bounds__(kThreads)
    apply_spans(bool dependent, const T* x, T* y, int64_t packs, int64_t count, Walk walk, Step stride, Step stride_one,
                Lookup lookup) {
  take_turn(dependent);
  const int64_t me = thread_number();
  Cursor pack_start{walk, step_of(walk, me * Pack<T>::kSize)};
  for (int64_t i = me; i < packs; i += thread_count(), pack_start.move(stride)) {
    Pack<T> pack = packs_of(x)[i];
    Cursor cursor = pack_start;
#pragma unroll
    for (int j = 0; j < Pack<T>::kSize; j++, cursor.move({1, 0})) {
      pack.at[j] = lookup.at(pack.at[j], cursor.channel());
    }
    packs_of(y)[i] = pack;
  }
  const int64_t tail = packs * Pack<T>::kSize;
  Cursor cursor{walk, step_of(walk, tail + me)};
  for (int64_t k = tail + me; k < count; k += thread_count(), cursor.move(stride_one)) {
    y[k] = lookup.at(x[k], cursor.channel());
  }
}

}  // namespace apa

#endif  // APA_TENSORRT_SPANS_CUH
