// The byte kernels for aarch64's NEON: 16 codes at a time.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "bytes.h"

namespace apa {
namespace {

constexpr size_t kWidth = 16;

// 256 entries are four times four registers: tbl looks 64 of them up and gives 0 beyond, tbx leaves what was there.
struct Rows {
  uint8x16x4_t at[4];
};

inline void read(Rows& rows, const uint8_t* table) {
  for (int r = 0; r < 4; r++) rows.at[r] = vld1q_u8_x4(table + 64 * r);
}

inline uint8x16_t look_up(const Rows& rows, uint8x16_t v) {
  uint8x16_t result = vqtbl4q_u8(rows.at[0], v);
  for (int r = 1; r < 4; r++) {
    v = vsubq_u8(v, vdupq_n_u8(64));  // below its row an index wraps round, and lies beyond it as well
    result = vqtbx4q_u8(result, rows.at[r], v);
  }
  return result;
}

void lookup(const uint8_t* table, const uint8_t* x, uint8_t* y, size_t n) {
  Rows rows;
  read(rows, table);
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) vst1q_u8(y + i, look_up(rows, vld1q_u8(x + i)));
  scalar_byte_kernels().lookup(table, x + i, y + i, n - i);
}

// Of four codes: the factors of a and of b, and the constants.
struct Factors {
  int16x4_t a[4], b[4];
  int32x4_t constant[4];
};

// Codes widened to 16 bits, as 32-bit sums back in 16 bits, saturated. `j`: which eight of the sixteen.
inline uint16x8_t summed(int16x8_t a, int16x8_t b, const Factors& f, int j, int32x4_t shift) {
  const int32x4_t low = vmlal_s16(vmlal_s16(f.constant[2 * j], vget_low_s16(a), f.a[2 * j]), vget_low_s16(b), f.b[2 * j]);
  const int32x4_t high =
      vmlal_s16(vmlal_s16(f.constant[2 * j + 1], vget_high_s16(a), f.a[2 * j + 1]), vget_high_s16(b), f.b[2 * j + 1]);
  return vcombine_u16(vqmovun_s32(vshlq_s32(low, shift)), vqmovun_s32(vshlq_s32(high, shift)));
}

inline uint8x16_t codes(uint8x16_t a, uint8x16_t b, const Factors& f, int32x4_t shift) {
  const auto low = [](uint8x16_t v) { return vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(v))); };
  const auto high = [](uint8x16_t v) { return vreinterpretq_s16_u16(vmovl_high_u8(v)); };
  return vcombine_u8(vqmovn_u16(summed(low(a), low(b), f, 0, shift)), vqmovn_u16(summed(high(a), high(b), f, 1, shift)));
}

void sum(const uint8_t* table, const Sum& s, const uint8_t* a, const uint8_t* b, uint8_t* y, size_t n) {
  Rows rows;
  read(rows, table);
  Factors f;
  for (int j = 0; j < 4; j++) {
    f.a[j] = vdup_n_s16(s.factor_a);
    f.b[j] = vdup_n_s16(s.factor_b);
    f.constant[j] = vdupq_n_s32(s.constant);
  }
  const int32x4_t shift = vdupq_n_s32(-s.shift);  // to the right
  const uint8x16_t flip = vdupq_n_u8(s.flip);
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const uint8x16_t va = veorq_u8(vld1q_u8(a + i), flip), vb = veorq_u8(vld1q_u8(b + i), flip);
    vst1q_u8(y + i, look_up(rows, codes(va, vb, f, shift)));
  }
  scalar_byte_kernels().sum(table, s, a + i, b + i, y + i, n - i);
}

// In a vector of 16 the order is that of the channels: `unpacked` changes nothing.
void channels(const uint8_t* table, const ChannelSums& s, const uint8_t* a, const uint8_t* b, uint8_t* y,
              size_t pixels) {
  Rows rows;
  read(rows, table);
  const int32x4_t shift = vdupq_n_s32(-s.shift);
  const uint8x16_t flip = vdupq_n_u8(s.flip);
  for (size_t c = 0; c < s.channels; c += kWidth) {
    Factors f;
    for (size_t j = 0; j < 4; j++) {
      const int16x4x2_t pairs = vld2_s16(s.factors + 2 * (c + 4 * j));
      f.a[j] = pairs.val[0];
      f.b[j] = pairs.val[1];
      f.constant[j] = vld1q_s32(s.constants + c + 4 * j);
    }
    for (size_t p = 0, i = c; p < pixels; p++, i += s.channels) {
      const uint8x16_t va = veorq_u8(vld1q_u8(a + i), flip), vb = veorq_u8(vld1q_u8(b + i), flip);
      vst1q_u8(y + i, look_up(rows, codes(va, vb, f, shift)));
    }
  }
}

}  // namespace

const ByteKernels& neon_byte_kernels() {
  static const ByteKernels kernels{"neon", kWidth, lookup, sum, channels};
  return kernels;
}

}  // namespace apa

#endif  // __aarch64__
