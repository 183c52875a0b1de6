// The errors that NVIDIA documents for ex2.approx and lg2.approx, injected into the kernels run on the CPU.
#ifndef CUDA_ERRORS_H
#define CUDA_ERRORS_H

#include <cmath>
#include <cstdint>
#include <cstring>

namespace cuda_errors {

// None: the exact result, rounded once. High, Low: the documented bound, always to one side.
// Random: anywhere within it.
enum class Mode { None, High, Low, Random };

inline Mode mode = Mode::None;
inline uint32_t state = 1;

// In -2 .. 2.
inline int draw() {
  state = state * 1664525u + 1013904223u;
  switch (mode) {
    case Mode::High: return 2;
    case Mode::Low: return -2;
    case Mode::Random: return static_cast<int>(state >> 16) % 5 - 2;
    default: return 0;
  }
}

inline float flushed(float x) { return std::fabs(x) < 0x1p-126f ? std::copysign(0.f, x) : x; }

inline float moved(float x, int ulps) {
  if (!std::isfinite(x) || x == 0) return x;
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  bits += ulps;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

// ex2.approx.ftz.f32: at most 2 ulp; subnormals in and out are 0; 2^0 is exactly 1. Results are positive, so
// that their bits order them.
inline float exp2(float x) {
  if (flushed(x) == 0) return 1;
  const float exact = static_cast<float>(std::exp2(static_cast<double>(flushed(x))));
  return flushed(moved(flushed(exact), draw()));
}

// lg2.approx.ftz.f32: at most 2^-22, absolute in (1/2, 2), relative elsewhere.
inline float log2(float x) {
  const double exact = std::log2(static_cast<double>(flushed(x)));
  if (!std::isfinite(exact)) return static_cast<float>(exact);
  const double bound = x > 0.5f && x < 2.f ? 0x1p-22 : std::fabs(exact) * 0x1p-22;
  return static_cast<float>(exact + bound * draw() / 2);
}

}  // namespace cuda_errors

#endif  // CUDA_ERRORS_H
