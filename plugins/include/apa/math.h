// The Adaptive Parametric Activation, once, for host and device. Header only, C++17, no dependency.
//
//     gate  APA(z)  = (1 + lambda * exp(-kappa * z))^(-1/lambda)      lambda = 0: exp(-exp(-kappa * z))
//     unit  AGLU(z) = z * APA(z)
//
// In base 2, with v = log2(lambda) - kappa*log2(e)*z :
//
//     log2 APA(z) = -1/lambda * log2(1 + 2^v)
//
// Everything that is known before z (kappa, lambda, their logarithms and reciprocals) is folded in
// float64 into `Coefficients`. What remains is written against a policy, so that a GPU may use
// ex2.approx, a CPU a polynomial that a compiler vectorises, and a test the documented error of either.
//
// A policy `Math` has: `Real`; `fma(a, b, c)`; `exp2(x)`; `exp2_of_product(a, hi, lo)` = 2^(a*(hi+lo));
// `times_exp2_of_product(y, a, hi, lo)` = y * 2^(a*(hi+lo)); `log2_1p(x)` = log2(1+x) for x >= 0, accurate
// in the relative sense near 0; `kSplitSlope`, whether the low half of the slope is worth an fma.
// Every one lets NaN through and gives +inf for log2_1p(+inf).
#ifndef APA_MATH_H
#define APA_MATH_H

#include <cmath>
#include <cstdint>

#if defined(__CUDACC__)
#define APA_HOST_DEVICE __host__ __device__ __forceinline__
#elif defined(__GNUC__)
#define APA_HOST_DEVICE inline __attribute__((always_inline))
#else
#define APA_HOST_DEVICE inline
#endif

namespace apa {

// Which arrangement of the formula is safe and exact. Decided once a channel by `coefficients`.
//   Small: lambda < 1/4. lambda * 2^(-kappa*log2(e)*z) may overflow, but the gate has underflowed long
//          before; and 1/lambda * lambda cancels exactly, which is what makes lambda -> 0 its limit.
//   Large: lambda >= 1/4. max(v, 0) + log2(1 + 2^-|v|) overflows for no z.
enum class Regime : int32_t { Small = 0, Large = 1 };

constexpr double kLargeFrom = 0.25;

// The smallest lambda that is kept. Below it the gate differs from its limit by less than 2^-90,
// and being a power of two it makes lambda * (-1/lambda) exactly -1.
constexpr double kSmallestLambda = 0x1p-100;

// What the formula needs of one channel. 32 bytes in float32, 64 in float64, trivially copyable.
template <class Real>
struct Coefficients {
  Real slope, slope_low;  // -kappa * log2(e), and what rounding took from it
  Real offset;            // log2(lambda)
  Real lambda;            // max(lambda, kSmallestLambda)
  Real rate, rate_low;    // -1/lambda, and what rounding took from it
  Regime regime;
  int32_t reserved;
};

// Folds effective parameters. Domain: lambda finite and >= 0, kappa finite. Host, float64.
template <class Real>
inline Coefficients<Real> coefficients(double lambda, double kappa) {
  const double kept = lambda > kSmallestLambda ? lambda : kSmallestLambda;
  const double slope = -kappa * 1.4426950408889634074;  // log2(e)
  const double rate = -1.0 / kept;
  Coefficients<Real> c{};
  c.slope = static_cast<Real>(slope);
  c.slope_low = static_cast<Real>(slope - static_cast<double>(c.slope));
  c.offset = static_cast<Real>(std::log2(kept));
  c.lambda = static_cast<Real>(kept);
  c.rate = static_cast<Real>(rate);
  c.rate_low = static_cast<Real>(rate - static_cast<double>(c.rate));
  c.regime = kept < kLargeFrom ? Regime::Small : Regime::Large;
  return c;
}

// v = log2(lambda) - kappa*log2(e)*z, rounded once (twice where the policy splits the slope).
// The low half sees z bounded: where z is infinite it could only turn v = +-inf into NaN.
template <class Math>
APA_HOST_DEVICE typename Math::Real log2_ratio(typename Math::Real z,
                                               const Coefficients<typename Math::Real>& c) {
  using Real = typename Math::Real;
  const Real v = Math::fma(z, c.slope, c.offset);
  if (!Math::kSplitSlope) return v;
  const Real below = z > Real(0x1p100) ? Real(0x1p100) : z;
  const Real bounded = below < Real(-0x1p100) ? Real(-0x1p100) : below;
  return Math::fma(bounded, c.slope_low, v);
}

// log2(1 + lambda * exp(-kappa*z)) >= 0; NaN for NaN; +inf where the gate is 0.
template <class Math, Regime kRegime>
APA_HOST_DEVICE typename Math::Real log2_denominator(typename Math::Real z,
                                                     const Coefficients<typename Math::Real>& c) {
  using Real = typename Math::Real;
  if (kRegime == Regime::Small) return Math::log2_1p(Math::exp2_of_product(z, c.slope, c.slope_low) * c.lambda);
  const Real v = log2_ratio<Math>(z, c);
  const Real positive = v > Real(0) ? v : Real(0);  // 0 for NaN: the next term carries the NaN
  const Real magnitude = v > Real(0) ? v : -v;
  return positive + Math::log2_1p(Math::exp2(-magnitude));
}

// APA(z), the gate, in [0, 1].
// Domain: every z. NaN -> NaN; for kappa > 0, +inf -> 1 and -inf -> 0 (mirrored for kappa < 0);
// kappa = 0 -> the constant (1 + lambda)^(-1/lambda) for finite z, NaN for +-inf, as PyTorch.
// Error, absolute, in float32: 1.2e-7 with VectorMath, any lambda; 6e-7 with the documented errors of a
// device (ex2.approx 2 ulp, lg2.approx 2^-22).
// Error, relative, with VectorMath: at most b * (2 + |log2 APA(z)|) ulp down to the last subnormal, where
//     lambda            b, with an fma   b, without
//     [0, 2^-100)                  2            5
//     [2^-100, 1/4)                3            5
//     [1/4, inf)                   2.5          3
// The rounding of log2 APA(z) is multiplied by its size: no flat bound in ulp exists in single-float
// arithmetic. At APA = 0.1, 1e-3, 1e-7 that is at most 16, 36, 76 ulp; docs/onnxruntime.md has the largest
// seen over all floats: 9, 20, 57. (The primitives' own bounds, added up, would allow twice as much.)
//
// The CPU library's kernels for float32 (docs/kernels.md), gate and unit:
//   exact, acc   the relative bounds above.
//   pw           the default: relative to max(1, |result|), so absolute where a result is small,
//                    gate 2^-23 = 1.2e-7, in [0, 1]        unit 2^-22 = 2.4e-7, any kappa
//                Results below 2^-24 may be 0, always with the right sign. A layer for which it cannot be kept gets
//                acc. acc for all: APA_KERNEL, com.apa.kernel or kernel= say "acc".
//   NaN, infinities and -0 are the same in all. A result below 2^-126 becomes 0 with its sign: such numbers take many
//   times as long in whatever reads them. Only "exact", asked for by name, keeps them.
template <class Math, Regime kRegime>
APA_HOST_DEVICE typename Math::Real gate(typename Math::Real z, const Coefficients<typename Math::Real>& c) {
  using Real = typename Math::Real;
  return Math::times_exp2_of_product(Real(1), log2_denominator<Math, kRegime>(z, c), c.rate, c.rate_low);
}

// AGLU(z) = z * APA(z), the unit.
// Domain: every z. NaN -> NaN; kappa > 0: +inf -> +inf, -inf -> NaN (-inf * 0), as PyTorch; -0 -> -0.
// Error, relative: as the gate's, where APA(z) > 2^-251 (below, 0 is returned: it shows only for
// lambda > 1e20). Relative to max(1, |AGLU(z)|): 2.5e-7 with VectorMath for lambda <= 1, |kappa| >= 1/4,
// which keep |AGLU| below 1 where the gate is small; 1.2e-6 on a device.
template <class Math, Regime kRegime>
APA_HOST_DEVICE typename Math::Real unit(typename Math::Real z, const Coefficients<typename Math::Real>& c) {
  return Math::times_exp2_of_product(z, log2_denominator<Math, kRegime>(z, c), c.rate, c.rate_low);
}

// The same with the regime read from the coefficients: for per-channel parameters.
template <class Math>
APA_HOST_DEVICE typename Math::Real gate(typename Math::Real z, const Coefficients<typename Math::Real>& c) {
  return c.regime == Regime::Small ? gate<Math, Regime::Small>(z, c) : gate<Math, Regime::Large>(z, c);
}

template <class Math>
APA_HOST_DEVICE typename Math::Real unit(typename Math::Real z, const Coefficients<typename Math::Real>& c) {
  return c.regime == Regime::Small ? unit<Math, Regime::Small>(z, c) : unit<Math, Regime::Large>(z, c);
}

// log2(1+x)/x on [0, 1/4], minimax: relative error 2^-25.9 (plugins/tests/maths_fit.py).
APA_HOST_DEVICE float log2_1p_over_x(float x) {
  float q = -1.332305819e-01f;
  q = q * x + 2.621509731e-01f;
  q = q * x + -3.574726880e-01f;
  q = q * x + 4.807178974e-01f;
  q = q * x + -7.213437557e-01f;
  return q * x + 1.442695022e+00f;
}

// A float32 policy from two primitives, `Primitive::exp2(float)` and `Primitive::log2(float)`: on a device
// ex2.approx.ftz and lg2.approx.ftz. lg2.approx is exact only to 2^-22 absolute near 1, which would lose
// log2(1+x) for small x (a lambda of 1e-8 needs x = 1e-8): below 1/4 the polynomial answers instead.
template <class Primitive>
struct GuardedMath {
  using Real = float;
  static constexpr bool kSplitSlope = false;
  static APA_HOST_DEVICE float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
  static APA_HOST_DEVICE float exp2(float x) { return Primitive::exp2(x); }
  static APA_HOST_DEVICE float exp2_of_product(float a, float hi, float) { return Primitive::exp2(a * hi); }
  static APA_HOST_DEVICE float times_exp2_of_product(float y, float a, float hi, float) {
    return y * Primitive::exp2(a * hi);
  }
  static APA_HOST_DEVICE float log2_1p(float x) {
    return x < 0.25f ? x * log2_1p_over_x(x) : Primitive::log2(1.0f + x);
  }
};

// float64, from the C library: correct to a few ulp times max(1, |log2 APA(z)|). The low halves are 0.
struct DoubleMath {
  using Real = double;
  static constexpr bool kSplitSlope = false;
  static inline double fma(double a, double b, double c) { return a * b + c; }
  static inline double exp2(double x) { return std::exp2(x); }
  static inline double exp2_of_product(double a, double hi, double) { return std::exp2(a * hi); }
  static inline double times_exp2_of_product(double y, double a, double hi, double) {
    return y * std::exp2(a * hi);
  }
  static inline double log2_1p(double x) { return std::log1p(x) * 1.4426950408889634074; }
};

}  // namespace apa

#endif  // APA_MATH_H
