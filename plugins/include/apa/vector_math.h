// The float32 policy of a CPU: straight-line polynomials that a compiler vectorises, no call, no branch.
// Build with -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math; never with -ffast-math, which
// would drop NaN and the magic-number rounding. Without an fma (plain x86-64, or below -O2) the product of
// a range reduction is rounded once more: to the bounds below come half an ulp and, for a product, one ulp
// times the size of the exponent.
#ifndef APA_VECTOR_MATH_H
#define APA_VECTOR_MATH_H

#include <cstdint>
#include <cstring>

#include "apa/math.h"

namespace apa {

APA_HOST_DEVICE float as_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

APA_HOST_DEVICE uint32_t as_bits(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

// The operand order lets NaN through: a comparison with NaN is false and picks x.
APA_HOST_DEVICE float at_most(float limit, float x) { return limit < x ? limit : x; }
APA_HOST_DEVICE float at_least(float limit, float x) { return limit > x ? limit : x; }

// 2^r for |r| <= 1/2 + 2^-20: relative error 1.8e-8 before rounding (plugins/tests/maths_fit.py, also below).
// `Math` has fma and all, which makes a Real of a float: one number, or a register of them.
template <class Math>
APA_HOST_DEVICE typename Math::Real exp2_fraction(typename Math::Real r) {
  typename Math::Real q = Math::all(1.547589782e-04f);
  q = Math::fma(q, r, Math::all(1.340028364e-03f));
  q = Math::fma(q, r, Math::all(9.618005715e-03f));
  q = Math::fma(q, r, Math::all(5.550327897e-02f));
  q = Math::fma(q, r, Math::all(2.402265072e-01f));
  q = Math::fma(q, r, Math::all(6.931471825e-01f));
  return Math::fma(q, r, Math::all(1.0f));
}

struct VectorMath {
  using Real = float;
  static constexpr bool kSplitSlope = true;

  // Adding 1.5 * 2^23 rounds to the nearest integer, which is then found in the low mantissa bits.
  static constexpr float kRounder = 12582912.0f;
  static constexpr uint32_t kRounderBits = 0x4b400000u;

  static APA_HOST_DEVICE float fma(float a, float b, float c) { return a * b + c; }

  static APA_HOST_DEVICE float all(float x) { return x; }
  static APA_HOST_DEVICE float exp2_fraction(float r) { return apa::exp2_fraction<VectorMath>(r); }

  // 2^x for x <= 0. x below -126 answers 2^-126, which no caller can tell from 0. <= 1 ulp.
  static APA_HOST_DEVICE float exp2(float x) {
    const float bounded = at_least(-126.0f, x);
    const float shifted = bounded + kRounder;
    const float r = bounded - (shifted - kRounder);
    return exp2_fraction(r) * as_float((as_bits(shifted) << 23) + 0x3f800000u);
  }

  // 2^(a*(hi+lo)), the product bounded to +-126 through `a`; 0*inf is NaN, so kappa = 0 meets it as PyTorch.
  // <= 1.5 ulp, however large the product: the range reduction is exact with an fma.
  static APA_HOST_DEVICE float exp2_of_product(float a, float hi, float lo) {
    const float limit = 126.0f / (hi > 0.0f ? hi : 0.0f - hi);  // +inf for either zero
    const float bounded = at_least(-limit, at_most(limit, a));
    const float shifted = bounded * hi + kRounder;
    const float r = (bounded * hi - (shifted - kRounder)) + bounded * lo;
    return exp2_fraction(r) * as_float((as_bits(shifted) << 23) + 0x3f800000u);
  }

  // y * 2^(a*(hi+lo)) for a >= 0, hi < 0. The power is split over both factors, which keeps each exact:
  // their product is rounded once, subnormal or not, and overflows for no y. Below 2^-251 the power is 0
  // (y = -inf then gives NaN), which shows only where |y| > 2^102.
  static APA_HOST_DEVICE float times_exp2_of_product(float y, float a, float hi, float lo) {
    const float bounded = at_most(-260.0f / hi, a);
    const float shifted = bounded * hi + kRounder;
    const float r = (bounded * hi - (shifted - kRounder)) + bounded * lo;
    const int32_t power = static_cast<int32_t>(as_bits(shifted) - kRounderBits);
    const int32_t last = power > -125 ? power : -125;  // exp2_fraction(r) >= 0.7, so the product is normal
    const int32_t first = power - last > -127 ? power - last : -127;  // -127 encodes the factor 0
    return (y * power_of_two(first)) * (exp2_fraction(r) * power_of_two(last));
  }

  // log2(1+x) for 0 <= x < 2^127, relative error 3.6e-8 before rounding, <= 2 ulp; NaN -> NaN.
  // 1+x = 2^e * (1+m) with m in [-1/4, 1/2): m comes from x itself, so nothing cancels for small x.
  static APA_HOST_DEVICE float log2_1p(float x) {
    const float u = x + 1.0f;
    const uint32_t e = (as_bits(u) - 0x3f400000u) & 0xff800000u;
    const float m = as_float(as_bits(x) - e) + (as_float(0x3f800000u - e) - 1.0f);
    float g = 7.806572318e-02f;
    g = g * m + -1.742292196e-01f;
    g = g * m + 2.163247168e-01f;
    g = g * m + -2.427236289e-01f;
    g = g * m + 2.881915271e-01f;
    g = g * m + -3.605759144e-01f;
    g = g * m + 4.809020758e-01f;
    g = g * m + -7.213484645e-01f;
    g = g * m + 1.442695022e+00f;
    // The exponent by a shift, not by a second product: of a sum of two products a compiler may fuse
    // either, and a result would depend on whether it lies in a vector or in the rest behind it.
    const float value = g * m + static_cast<float>(static_cast<int32_t>(e) >> 23);
    return u == u ? value : u;
  }

 private:
  static APA_HOST_DEVICE float power_of_two(int32_t exponent) {
    return as_float((static_cast<uint32_t>(exponent) + 127u) << 23);
  }
};

}  // namespace apa

#endif  // APA_VECTOR_MATH_H
