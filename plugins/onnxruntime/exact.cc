// The formula itself, vectorised by the compiler for three generations of x86-64, chosen as the library loads.
#include "clones.h"
#include "kernels.h"

namespace apa {
namespace {

APA_CLONES void gate_small(const float* x, float* y, size_t n, Coefficients<float> c) {
#pragma GCC ivdep
  for (size_t i = 0; i < n; i++) y[i] = gate<VectorMath, Regime::Small>(x[i], c);
}

APA_CLONES void gate_large(const float* x, float* y, size_t n, Coefficients<float> c) {
#pragma GCC ivdep
  for (size_t i = 0; i < n; i++) y[i] = gate<VectorMath, Regime::Large>(x[i], c);
}

APA_CLONES void unit_small(const float* x, float* y, size_t n, Coefficients<float> c) {
#pragma GCC ivdep
  for (size_t i = 0; i < n; i++) y[i] = unit<VectorMath, Regime::Small>(x[i], c);
}

APA_CLONES void unit_large(const float* x, float* y, size_t n, Coefficients<float> c) {
#pragma GCC ivdep
  for (size_t i = 0; i < n; i++) y[i] = unit<VectorMath, Regime::Large>(x[i], c);
}

// Both regimes, then a choice: a lane cannot branch.
APA_HOST_DEVICE float lane_denominator(float z, const Lanes& l, size_t i) {
  const Coefficients<float> c{l.slope[i], l.slope_low[i], l.offset[i], l.lambda[i],
                              l.rate[i],  l.rate_low[i],  Regime::Small, 0};
  const float small = log2_denominator<VectorMath, Regime::Small>(z, c);
  const float large = log2_denominator<VectorMath, Regime::Large>(z, c);
  return l.large[i] != 0 ? large : small;
}

APA_CLONES void gate_lanes(const float* x, float* y, size_t n, Lanes l) {
#pragma GCC ivdep
  for (size_t i = 0; i < n; i++)
    y[i] = VectorMath::times_exp2_of_product(1.0f, lane_denominator(x[i], l, i), l.rate[i], l.rate_low[i]);
}

APA_CLONES void unit_lanes(const float* x, float* y, size_t n, Lanes l) {
#pragma GCC ivdep
  for (size_t i = 0; i < n; i++)
    y[i] = VectorMath::times_exp2_of_product(x[i], lane_denominator(x[i], l, i), l.rate[i], l.rate_low[i]);
}

APA_CLONES void widen_half(const Half* x, float* y, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = widened(x[i]);
}

APA_CLONES void widen_bfloat16(const Bfloat16* x, float* y, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = widened(x[i]);
}

APA_CLONES void narrow_half(const float* x, Half* y, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = narrowed_half(x[i]);
}

APA_CLONES void narrow_bfloat16(const float* x, Bfloat16* y, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = narrowed_bfloat16(x[i]);
}

}  // namespace

void exact_row(Kind kind, const float* x, float* y, size_t n, const Coefficients<float>& c) {
  const bool small = c.regime == Regime::Small;
  if (kind == Kind::Gate) return small ? gate_small(x, y, n, c) : gate_large(x, y, n, c);
  return small ? unit_small(x, y, n, c) : unit_large(x, y, n, c);
}

void exact_lanes(Kind kind, const float* x, float* y, size_t n, const Lanes& lanes) {
  kind == Kind::Gate ? gate_lanes(x, y, n, lanes) : unit_lanes(x, y, n, lanes);
}

void double_row(Kind kind, const double* x, double* y, size_t n, const Coefficients<double>& c) {
  for (size_t i = 0; i < n; i++) y[i] = kind == Kind::Gate ? gate<DoubleMath>(x[i], c) : unit<DoubleMath>(x[i], c);
}

void widen(const Half* x, float* y, size_t n) { widen_half(x, y, n); }
void widen(const Bfloat16* x, float* y, size_t n) { widen_bfloat16(x, y, n); }
void narrow(const float* x, Half* y, size_t n) { narrow_half(x, y, n); }
void narrow(const float* x, Bfloat16* y, size_t n) { narrow_bfloat16(x, y, n); }

}  // namespace apa
