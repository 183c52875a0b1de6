// The table kernels for aarch64's NEON: 4 lanes. A cubic is one 128-bit load, as for AVX2: the same tables, and the
// same operations in the same order, so the same bits. To look segments up in registers (tbl), as AVX-512 does, would
// take 64 of them: 8 powers of 32 segments.
#if defined(__aarch64__)

#include <arm_neon.h>

#include <cstring>
#include <type_traits>

#include "table.h"

namespace apa {
namespace {

struct Neon {
  using V = float32x4_t;
  using Real = V;
  static constexpr int kWidth = 4;
  static constexpr bool kBySegment = true;

  static APA_HOST_DEVICE V all(float x) { return vdupq_n_f32(x); }
  // As bytes, which may lie anywhere.
  static APA_HOST_DEVICE V load(const void* at) { return vreinterpretq_f32_u8(vld1q_u8(static_cast<const uint8_t*>(at))); }
  static APA_HOST_DEVICE void store(void* at, V x) { vst1q_u8(static_cast<uint8_t*>(at), vreinterpretq_u8_f32(x)); }
  static APA_HOST_DEVICE V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
  static APA_HOST_DEVICE V fms(V a, V b, V c) { return vfmaq_f32(vnegq_f32(c), a, b); }
  static APA_HOST_DEVICE V mul(V a, V b) { return vmulq_f32(a, b); }
  static APA_HOST_DEVICE V sub(V a, V b) { return vsubq_f32(a, b); }
  static APA_HOST_DEVICE V min(V a, V b) { return vminq_f32(a, b); }
  static APA_HOST_DEVICE V max(V a, V b) { return vmaxq_f32(a, b); }
  static APA_HOST_DEVICE V flipped(V a, V signs) {
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(a), vreinterpretq_u32_f32(signs)));
  }
  static APA_HOST_DEVICE unsigned below(V a, V b) {
    static constexpr uint32_t kBits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vcltq_f32(a, b), vld1q_u32(kBits)));
  }

  static APA_HOST_DEVICE V load_as(float, const void* at) { return load(at); }
  static APA_HOST_DEVICE V load_as(Half, const void* at) {
    return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(static_cast<const uint8_t*>(at))));
  }
  static APA_HOST_DEVICE V load_as(Bfloat16, const void* at) {
    const uint16x4_t bits = vreinterpret_u16_u8(vld1_u8(static_cast<const uint8_t*>(at)));
    return vreinterpretq_f32_u32(vshll_n_u16(bits, 16));
  }
  static APA_HOST_DEVICE void store_as(float, void* at, V x) { store(at, x); }
  static APA_HOST_DEVICE void store_as(Half, void* at, V x) {
    vst1_u8(static_cast<uint8_t*>(at), vreinterpret_u8_f16(vcvt_f16_f32(x)));
  }
  // Ties to even by adding 0x7fff and the last kept bit; NaN, which that could turn into inf, apart.
  static APA_HOST_DEVICE void store_as(Bfloat16, void* at, V x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t sum = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7fff)), odd);
    const uint32x4_t kept = vbslq_u32(vceqq_f32(x, x), sum, vdupq_n_u32(0x7fc00000));
    vst1_u8(static_cast<uint8_t*>(at), vreinterpret_u8_u16(vshrn_n_u32(kept, 16)));
  }

  // y * 2^v for -252 < v <= 0: see AVX2's.
  static APA_HOST_DEVICE V times_exp2(V y, V v) {
    const V rounder = all(VectorMath::kRounder);
    const V shifted = vaddq_f32(v, rounder);
    const V q = exp2_fraction<Neon>(sub(v, sub(shifted, rounder)));
    const int32x4_t power = vsubq_s32(vreinterpretq_s32_f32(shifted), vdupq_n_s32(VectorMath::kRounderBits));
    const int32x4_t last = vmaxq_s32(power, vdupq_n_s32(-125));
    const uint32x4_t counts = vcgtq_s32(power, vdupq_n_s32(-177));
    const V factor = vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(power_of_two(last)), counts));
    return mul(mul(y, power_of_two(vsubq_s32(power, last))), mul(q, factor));
  }
  static APA_HOST_DEVICE V power_of_two(int32x4_t exponent) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(exponent, vdupq_n_s32(127)), 23));
  }

  template <int kDegree>
  struct Lookup {
    static_assert(kDegree == 3, "a row of the table is one cubic");
    const float* rows;
    const uint32x4_t mask;
    explicit Lookup(const Table& t) : rows(t.values), mask(vdupq_n_u32(t.mask)) {}

    APA_HOST_DEVICE V operator()(V shifted, V f) const {
      const uint32x4_t at = vshlq_n_u32(vandq_u32(vreinterpretq_u32_f32(shifted), mask), 2);
      const V a = vld1q_f32(rows + vgetq_lane_u32(at, 0)), b = vld1q_f32(rows + vgetq_lane_u32(at, 1));
      const V c = vld1q_f32(rows + vgetq_lane_u32(at, 2)), d = vld1q_f32(rows + vgetq_lane_u32(at, 3));
      const V ab = vzip1q_f32(a, b), cd = vzip1q_f32(c, d);    // powers 0 and 1
      const V ab2 = vzip2q_f32(a, b), cd2 = vzip2q_f32(c, d);  // powers 2 and 3
      const V c0 = halves(ab, cd, false), c1 = halves(ab, cd, true);
      const V c2 = halves(ab2, cd2, false), c3 = halves(ab2, cd2, true);
      return fma(fma(fma(c3, f, c2), f, c1), f, c0);
    }
    static APA_HOST_DEVICE V halves(V a, V b, bool high) {
      const float64x2_t x = vreinterpretq_f64_f32(a), y = vreinterpretq_f64_f32(b);
      return vreinterpretq_f32_f64(high ? vzip2q_f64(x, y) : vzip1q_f64(x, y));
    }
  };
};

}  // namespace
}  // namespace apa

#include "table_row.h"

namespace apa {

const TableKernels& neon_kernels(Element element) {
  static constexpr TableKernels real = kernels<Neon, 3, float>(256, 512, 256);
  static constexpr TableKernels half = kernels<Neon, 3, Half>(64, 64, 64);
  static constexpr TableKernels bfloat16 = kernels<Neon, 3, Bfloat16>(32, 32, 32);
  return element == Element::Float16 ? half : element == Element::Bfloat16 ? bfloat16 : real;
}

}  // namespace apa

#endif
