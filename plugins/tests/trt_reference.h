// The activation in float64 by its textbook formula, independent of apa/math.h; and numbers as a type holds them.
#ifndef TRT_REFERENCE_H
#define TRT_REFERENCE_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cmath>

#include "activation.h"

namespace reference {

// (1 + lambda e^(-kappa z))^(-1/lambda); log1p(e^a) is a where e^a would overflow.
inline double gate(double z, double lambda, double kappa) {
  if (lambda == 0) return std::exp(-std::exp(-kappa * z));
  const double a = std::log(lambda) - kappa * z;
  return std::exp(-(a > 700 ? a : std::log1p(std::exp(a))) / lambda);
}

inline double activation(apa::Kind kind, double z, double lambda, double kappa) {
  return kind == apa::Kind::Gate ? gate(z, lambda, kappa) : z * gate(z, lambda, kappa);
}

inline double value(float x) { return x; }
inline double value(__half x) { return __half2float(x); }
inline double value(__nv_bfloat16 x) { return __bfloat162float(x); }
inline double value(int8_t x) { return x; }

template <class T>
T number(double x);
template <>
inline float number<float>(double x) { return static_cast<float>(x); }
template <>
inline __half number<__half>(double x) { return __double2half(x); }
template <>
inline __nv_bfloat16 number<__nv_bfloat16>(double x) { return __double2bfloat16(x); }
template <>
inline int8_t number<int8_t>(double x) { return static_cast<int8_t>(x); }

// Precision and smallest exponent: 2^(exponent - kDigits) is one unit in the last place.
template <class T>
struct Numbers;
template <>
struct Numbers<float> {
  static constexpr apa::Element kElement = apa::Element::Float32;
};
template <>
struct Numbers<__half> {
  static constexpr apa::Element kElement = apa::Element::Float16;
  static constexpr int kFraction = 10, kLeast = -14;
};
template <>
struct Numbers<__nv_bfloat16> {
  static constexpr apa::Element kElement = apa::Element::Bfloat16;
  static constexpr int kFraction = 7, kLeast = -126;
};

// What the type makes of an exact result: float32 at most 1.5e-6 of max(1, |y|), which is the bound of
// apa/math.h on a device (1.2e-6) and the rounding of the parameters; the half types 1/2 ulp of theirs, since
// they round to nearest, and 1/20 for the float32 before it (relative to the gate at most 126 * 2^-22, that is
// 1/65 ulp of float16 and less of bfloat16); and what ex2.approx.ftz flushes to 0: a gate below 2^-126, which
// the unit multiplies by z.
template <class T>
double tolerance(double exact, double flushed) {
  int exponent = 0;
  std::frexp(exact, &exponent);
  const int kept = exponent - 1 < Numbers<T>::kLeast ? Numbers<T>::kLeast : exponent - 1;
  return 0.55 * std::ldexp(1.0, kept - Numbers<T>::kFraction) + flushed;
}
template <>
inline double tolerance<float>(double exact, double) { return 1.5e-6 * std::fmax(1.0, std::fabs(exact)); }

// The error over the tolerance; 0 where the exact value is not finite.
template <class T>
double share_of_tolerance(double got, double exact, double z) {
  if (!std::isfinite(exact)) return 0;
  return std::fabs(got - exact) / tolerance<T>(exact, std::fmax(1.0, std::fabs(z)) * 0x1p-126);
}

// Whether `got` is the exact activation of `z`, as far as the type T goes.
template <class T>
bool close(double got, double exact, double z) {
  if (std::isnan(exact)) return std::isnan(got);
  if (std::isinf(exact)) return got == exact;
  return share_of_tolerance<T>(got, exact, z) <= 1;
}

// QuantizeLinear with zero point 0; NaN is -128.
inline double code_of(double y, float scale) {
  return std::isnan(y) ? -128 : std::fmin(127, std::fmax(-128, std::nearbyint(y / static_cast<double>(scale))));
}

// Whether a code is that of the exact activation, or of a float32 as far from it as the kernels' may be: the tolerance
// of float32, and the rounding of the quotient. Codes differ, by one, only where that reaches over an edge.
inline bool close_code(double got, double exact, float scale) {
  if (!std::isfinite(exact)) return got == code_of(exact, scale);
  const double off = tolerance<float>(exact, 0) + 0x1p-24 * std::fabs(exact);
  return got >= code_of(exact - off, scale) && got <= code_of(exact + off, scale);
}

// The scale of codes in tests of layouts: activations of what these hold exceed 127 of it, and are below -1 of it.
constexpr float kScale = 0.03f;

// What a kernel wrote for z, of the type To: `exact` as far as that type goes.
template <class To>
bool is_result(To got, double exact, double z) {
  return close<To>(value(got), exact, z);
}
template <>
inline bool is_result<int8_t>(int8_t got, double exact, double) { return close_code(got, exact, kScale); }

}  // namespace reference

#endif  // TRT_REFERENCE_H
