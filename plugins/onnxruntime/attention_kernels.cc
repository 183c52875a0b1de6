#include "attention_kernels.h"

#include <algorithm>
#include <limits>

#include "clones.h"

namespace apa {
namespace {

// One vector a block of channels: left to itself the compiler gathers single lanes. Whatever the processor, this
// becomes as many of its registers as it takes.
template <size_t kLanes>
struct Block {
  typedef float V __attribute__((vector_size(kLanes * sizeof(float)), aligned(sizeof(float)), may_alias));
};
template <>
struct Block<1> {
  typedef float V;
};

// Whether plane and residual are there is decided outside the loop.
template <size_t kLanes, bool kPlane, bool kResidual>
inline __attribute__((always_inline)) void scale_lanes(const Scaling& s) {
  using V = typename Block<kLanes>::V;
  const V gate = *reinterpret_cast<const V*>(s.gate);
  const V* x = reinterpret_cast<const V*>(s.x);
  const V* residual = reinterpret_cast<const V*>(s.residual);
  V* y = reinterpret_cast<V*>(s.y);
#pragma GCC ivdep
  for (size_t p = 0; p < s.positions; p++) {
    const V scaled = x[p] * (kPlane ? gate * s.plane[p] : gate);
    y[p] = kResidual ? scaled + residual[p] : scaled;
  }
}

template <size_t kLanes>
inline __attribute__((always_inline)) void scale_variant(const Scaling& s) {
  if (s.plane && s.residual) return scale_lanes<kLanes, true, true>(s);
  if (s.plane) return scale_lanes<kLanes, true, false>(s);
  if (s.residual) return scale_lanes<kLanes, false, true>(s);
  scale_lanes<kLanes, false, false>(s);
}

APA_CLONES void scale_16(const Scaling& s) { scale_variant<16>(s); }
APA_CLONES void scale_8(const Scaling& s) { scale_variant<8>(s); }
APA_CLONES void scale_1(const Scaling& s) { scale_variant<1>(s); }

template <size_t kLanes>
inline __attribute__((always_inline)) void gather_lanes(const float* x, const float* gate, size_t positions,
                                                        float* largest, float* sum) {
  using V = typename Block<kLanes>::V;
  const V factor = *reinterpret_cast<const V*>(gate);
  const V* from = reinterpret_cast<const V*>(x);
  V* most = reinterpret_cast<V*>(largest);
  V* total = reinterpret_cast<V*>(sum);
#pragma GCC ivdep
  for (size_t p = 0; p < positions; p++) {
    const V value = from[p] * factor;
    most[p] = most[p] < value ? value : most[p];
    total[p] += value;
  }
}

APA_CLONES void gather(const float* x, const float* gate, size_t positions, size_t lanes, float* largest, float* sum) {
  if (lanes == 16) return gather_lanes<16>(x, gate, positions, largest, sum);
  if (lanes == 8) return gather_lanes<8>(x, gate, positions, largest, sum);
  gather_lanes<1>(x, gate, positions, largest, sum);
}

// A block whose last lanes are padding.
void gather_some(const float* x, const float* gate, size_t positions, size_t lanes, size_t used, float* largest,
                 float* sum) {
  for (size_t p = 0; p < positions; p++)
    for (size_t i = p * lanes; i < p * lanes + used; i++) {
      const float value = x[i] * gate[i - p * lanes];
      largest[i] = std::max(largest[i], value);
      sum[i] += value;
    }
}

}  // namespace

void Gates::lanes_of(const Map& map, size_t sample, size_t group, float* to) const {
  for (size_t i = 0; i < map.lanes; i++) {
    const size_t c = group * map.lanes + i;
    to[i] = !channel ? 1.0f : c < channels ? channel[sample * channel_stride + c] : 0.0f;
  }
}

void scale(const Scaling& s) {
  if (s.lanes == 16) return scale_16(s);
  if (s.lanes == 8) return scale_8(s);
  scale_1(s);
}

void pool_channels(const float* x, const Map& map, const Gates& gates, size_t sample, size_t begin, size_t end,
                   float* out) {
  alignas(64) float largest[kPooled], sum[kPooled], gate[kMostLanes];
  const size_t positions = end - begin, count = positions * map.lanes;
  std::fill_n(largest, count, -std::numeric_limits<float>::infinity());
  std::fill_n(sum, count, 0.0f);
  for (size_t g = 0; g < map.groups(); g++) {
    const float* from = x + (sample * map.groups() + g) * map.span() + begin * map.lanes;
    const size_t used = std::min(map.lanes, gates.channels - std::min(gates.channels, g * map.lanes));
    gates.lanes_of(map, sample, g, gate);
    if (used == map.lanes)
      gather(from, gate, positions, map.lanes, largest, sum);
    else
      gather_some(from, gate, positions, map.lanes, used, largest, sum);
  }
  for (size_t p = 0; p < positions; p++) {
    float most = largest[p * map.lanes], all = 0;
    for (size_t i = 0; i < map.lanes; i++) {
      most = std::max(most, largest[p * map.lanes + i]);
      all += sum[p * map.lanes + i];
    }
    out[begin + p] = most;
    out[map.positions + begin + p] = all / static_cast<float>(gates.channels);
  }
}

}  // namespace apa
