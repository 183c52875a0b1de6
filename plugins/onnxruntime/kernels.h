// The kernels of the CPU library, free of ONNX Runtime. All work in place (x == y), at any alignment, for any n.
#ifndef APA_KERNELS_H
#define APA_KERNELS_H

#include <cstddef>

#include "apa/math.h"
#include "apa/number.h"

namespace apa {

enum class Kind { Gate, Unit };
enum class Element { Float32, Float16, Bfloat16, Float64 };

// One coefficient set a lane, as arrays, for parameters that change from element to element.
struct Lanes {
  const float *slope, *slope_low, *offset, *lambda, *rate, *rate_low;
  const int32_t* large;
};

// Accuracy: the contract of apa/math.h with VectorMath.
void exact_row(Kind kind, const float* x, float* y, size_t n, const Coefficients<float>& c);
void exact_lanes(Kind kind, const float* x, float* y, size_t n, const Lanes& lanes);
void double_row(Kind kind, const double* x, double* y, size_t n, const Coefficients<double>& c);

void widen(const Half* x, float* y, size_t n);
void widen(const Bfloat16* x, float* y, size_t n);
void narrow(const float* x, Half* y, size_t n);
void narrow(const float* x, Bfloat16* y, size_t n);

}  // namespace apa

#endif  // APA_KERNELS_H
