// What a kernel computes and what it must know of each channel. Host and device, no CUDA dependency.
#ifndef APA_TENSORRT_ACTIVATION_H
#define APA_TENSORRT_ACTIVATION_H

#include <cstddef>
#include <cstdint>
#include <vector>

#include "apa/math.h"

namespace apa {

enum class Kind : int32_t { Gate, Unit };

enum class Element : int32_t { Float32, Float16, Bfloat16, Int8 };

inline int64_t bytes_of(Element element) {
  return element == Element::Float32 ? 4 : element == Element::Int8 ? 1 : 2;
}

// Effective parameters, each of length 1 or C.
struct Parameters {
  std::vector<float> lambda, kappa;
  int32_t axis = 1;

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

// y = entry[uint8(x)]: an int8 activation with its two scales.
struct alignas(16) ByteTable {
  int8_t entry[256];
};

// The channels of a per-channel activation, filled up to a multiple of 32 with harmless ones: the widest
// vectorised format pads to 32, and what lies in the padding is computed too.
std::vector<Channel> channels_of(const Parameters& parameters);

// The table of one channel. Domain: scales finite and > 0. Rounds to nearest even, clamps to [-128, 127].
ByteTable byte_table(Kind kind, double lambda, double kappa, double scale_in, double scale_out);

// One table a channel, filled up like `channels_of`; the tables that fill up are zero.
std::vector<ByteTable> byte_tables(Kind kind, const Parameters& parameters, double scale_in,
                                   double scale_out);

}  // namespace apa

#endif  // APA_TENSORRT_ACTIVATION_H
