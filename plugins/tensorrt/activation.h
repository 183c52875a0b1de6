// What a kernel computes and what it must know of each channel. Host and device, no CUDA dependency.
#ifndef APA_TENSORRT_ACTIVATION_H
#define APA_TENSORRT_ACTIVATION_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "apa/math.h"

namespace apa {

enum class Kind : int32_t { Gate, Unit };

enum class Element : int32_t { Float32, Float16, Bfloat16 };

inline int64_t bytes_of(Element element) { return element == Element::Float32 ? 4 : 2; }

// Effective parameters, each of length 1 or C. scale_out: of int8 results; 0 where results are of the input's type.
struct Parameters {
  std::vector<float> lambda, kappa;
  int32_t axis = 1;
  float scale_out = 0;

  size_t channels() const { return lambda.size() > kappa.size() ? lambda.size() : kappa.size(); }
  double lambda_of(size_t channel) const { return lambda[lambda.size() == 1 ? 0 : channel]; }
  double kappa_of(size_t channel) const { return kappa[kappa.size() == 1 ? 0 : channel]; }
};

// One channel's coefficients in one 16-byte load: each regime needs three of them.
struct alignas(16) Channel {
  float slope;
  float second;  // Small: lambda; Large: offset
  float rate;
  Regime regime;

  APA_HOST_DEVICE Coefficients<float> unfolded() const {
    Coefficients<float> c{};
    c.slope = slope;
    c.offset = c.lambda = second;
    c.rate = rate;
    c.regime = regime;
    return c;
  }
};

// The channels of a per-channel activation, filled up to a multiple of 32 with harmless ones: the widest
// vectorised format pads to 32, and what lies in the padding is computed too.
std::vector<Channel> channels_of(const Parameters& parameters);

}  // namespace apa

#endif  // APA_TENSORRT_ACTIVATION_H
