// Kernels on 8-bit codes: a table of 256 entries, and sums of codes before it. All exact, for any n, at any alignment;
// y may be x, a or b. Free of ONNX Runtime.
#ifndef APA_BYTES_H
#define APA_BYTES_H

#include <cstddef>
#include <cstdint>

#include "table.h"

namespace apa {

// code = clamp((a*factor_a + b*factor_b + constant) >> shift, 0, 255), in 32 bits; a and b are flipped first, which
// makes signed codes unsigned. The shift is arithmetic; |factors| < 2^15, shift <= 20, |constant| < 2^30.
struct Sum {
  int16_t factor_a, factor_b;
  int32_t constant;
  int shift;
  uint8_t flip;  // 0x80 for signed codes, else 0
};

// The same with factor_a and the constant for each of `channels` channels, which lie side by side: NHWC.
// `factors`: factor_a, factor_b of each channel by turns.
struct ChannelSums {
  const int16_t* factors;
  const int32_t* constants;
  size_t channels;
  int shift;
  uint8_t flip;
};

struct ByteKernels {
  const char* name;
  size_t width;  // bytes of a vector; 1: none
  void (*lookup)(const uint8_t* table, const uint8_t* x, uint8_t* y, size_t n);
  void (*sum)(const uint8_t* table, const Sum& sum, const uint8_t* a, const uint8_t* b, uint8_t* y, size_t n);
  // `sums.channels` is a multiple of `width`, factors and constants lie in `unpacked` order.
  void (*channels)(const uint8_t* table, const ChannelSums& sums, const uint8_t* a, const uint8_t* b, uint8_t* y,
                   size_t pixels);
};

// Where channel c of a vector of `width` bytes lies once bytes were unpacked twice, lane by lane of 16 bytes.
inline size_t unpacked(size_t c, size_t width) {
  if (width < 16) return c;
  const size_t at = c % width, lane = at / 16, quarter = at % 16 / 4;
  return c - at + quarter * (width / 4) + lane * 4 + at % 4;
}

const ByteKernels& scalar_byte_kernels();
const ByteKernels& avx2_byte_kernels();
const ByteKernels& vbmi_byte_kernels();
const ByteKernels& neon_byte_kernels();

// The fastest that this processor runs, within `allowed`.
const ByteKernels& byte_kernels(Instructions allowed);

}  // namespace apa

#endif  // APA_BYTES_H
