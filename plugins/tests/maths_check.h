// What the checks of the maths share: a count of failures, and the truth in long double.
#ifndef APA_MATHS_CHECK_H
#define APA_MATHS_CHECK_H

#include <cmath>
#include <cstdio>

#include "apa/number.h"

namespace check {

inline int failures = 0;

// Says what failed and counts it; prints the first few only, for a wrong formula fails everywhere.
inline void that(bool good, const char* what, double z, double a, double b, double got, double want) {
  if (good || ++failures > 20) return;
  std::printf("FAIL %s: z %.9g, %.9g, %.9g: got %.9g, want %.9g\n", what, z, a, b, got, want);
}

inline bool same(double got, double want) {
  if (std::isnan(want)) return std::isnan(got);
  return got == want && std::signbit(got) == std::signbit(want);
}

inline long double log2_gate(long double z, long double lambda, long double kappa) {
  constexpr long double kLog2E = 1.4426950408889634073599L;
  if (lambda == 0) return -std::exp(-kappa * z) * kLog2E;
  const long double t = std::log(lambda) - kappa * z;
  return -((t > 0 ? t : 0) + std::log1p(std::exp(-std::abs(t)))) / lambda * kLog2E;
}

// The distance of neighbouring numbers with `digits` bits around `value`, above the smallest 2^bottom.
inline double ulp(double value, int digits, int bottom) {
  const int exponent = value == 0 ? bottom : std::ilogb(value) - digits + 1;
  return std::ldexp(1.0, exponent < bottom ? bottom : exponent);
}

inline double float_ulp(double value) { return ulp(value, 24, -149); }

}  // namespace check

#endif  // APA_MATHS_CHECK_H
