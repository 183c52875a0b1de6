#include "activation.h"

#include <algorithm>
#include <cmath>

namespace apa {
namespace {

constexpr size_t kWidestVector = 32;

size_t filled_up(size_t channels) { return (channels + kWidestVector - 1) / kWidestVector * kWidestVector; }

Channel folded(double lambda, double kappa) {
  const Coefficients<float> c = coefficients<float>(lambda, kappa);
  return {c.slope, c.regime == Regime::Small ? c.lambda : c.offset, c.rate, c.regime};
}

int8_t quantised(double value, double scale) {
  const double steps = std::nearbyint(value / scale);
  return static_cast<int8_t>(std::min(127.0, std::max(-128.0, steps)));
}

}  // namespace

std::vector<Channel> channels_of(const Parameters& parameters) {
  std::vector<Channel> channels(filled_up(parameters.channels()), folded(1, 1));
  for (size_t c = 0; c < parameters.channels(); c++) {
    channels[c] = folded(parameters.lambda_of(c), parameters.kappa_of(c));
  }
  return channels;
}

ByteTable byte_table(Kind kind, double lambda, double kappa, double scale_in, double scale_out) {
  const Coefficients<double> c = coefficients<double>(lambda, kappa);
  ByteTable table;
  for (int q = -128; q < 128; q++) {
    const double z = q * scale_in;
    const double y = kind == Kind::Gate ? gate<DoubleMath>(z, c) : unit<DoubleMath>(z, c);
    table.entry[static_cast<uint8_t>(q)] = quantised(y, scale_out);
  }
  return table;
}

std::vector<ByteTable> byte_tables(Kind kind, const Parameters& parameters, double scale_in,
                                   double scale_out) {
  std::vector<ByteTable> tables(filled_up(parameters.channels()), ByteTable{});
  for (size_t c = 0; c < parameters.channels(); c++) {
    tables[c] = byte_table(kind, parameters.lambda_of(c), parameters.kappa_of(c), scale_in, scale_out);
  }
  return tables;
}

}  // namespace apa
