#include "activation.h"

namespace apa {
namespace {

constexpr size_t kWidestVector = 32;

size_t filled_up(size_t channels) { return (channels + kWidestVector - 1) / kWidestVector * kWidestVector; }

Channel folded(double lambda, double kappa) {
  const Coefficients<float> c = coefficients<float>(lambda, kappa);
  return {c.slope, c.regime == Regime::Small ? c.lambda : c.offset, c.rate, c.regime};
}

}  // namespace

std::vector<Channel> channels_of(const Parameters& parameters) {
  std::vector<Channel> channels(filled_up(parameters.channels()), folded(1, 1));
  for (size_t c = 0; c < parameters.channels(); c++) {
    channels[c] = folded(parameters.lambda_of(c), parameters.kappa_of(c));
  }
  return channels;
}

}  // namespace apa
