// The elementwise part of attention blocks (SE, CBAM), in NCHW or in ONNX Runtime's blocked NCHWc.
#ifndef APA_ATTENTION_KERNELS_H
#define APA_ATTENTION_KERNELS_H

#include <cstddef>
#include <cstdint>

namespace apa {

constexpr size_t kMostLanes = 16;

// A float32 feature map. `lanes` channels lie side by side at each position: 1 is NCHW. `channels` counts those in
// memory; ONNX Runtime pads the last block.
struct Map {
  size_t samples, channels, positions, lanes;
  size_t total() const { return samples * channels * positions; }
  size_t span() const { return positions * lanes; }
  size_t groups() const { return channels / lanes; }
};

// What multiplies a map: a number a channel, a number a position, both, or none (null). A stride of 0 serves
// every sample from the first.
struct Gates {
  const float* channel = nullptr;
  size_t channels = 0, channel_stride = 0;  // without the padding
  const float* plane = nullptr;
  size_t plane_stride = 0;

  // The channel gate of one block; 1 where there is none, 0 in the padding.
  void lanes_of(const Map& map, size_t sample, size_t group, float* to) const;
};

// y = x * gate[lane] * plane[position] + residual over `positions`, with `plane` and `residual` null for 1 and 0.
// lanes: 1, 8 or 16. y may be x.
struct Scaling {
  const float *x, *gate, *plane, *residual;
  float* y;
  size_t positions, lanes;
};
void scale(const Scaling& s);

// out[0] = max, out[1] = mean over the channels of x times its channel gate, at positions [begin, end) of one sample.
// out: planes of map.positions. At most kPooled / lanes positions. The padding does not count.
constexpr size_t kPooled = 1024;
void pool_channels(const float* x, const Map& map, const Gates& gates, size_t sample, size_t begin, size_t end,
                   float* out);

}  // namespace apa

#endif  // APA_ATTENTION_KERNELS_H
