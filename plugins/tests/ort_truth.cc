// Compiled apart, with -O3 -ffast-math, so that the C library's vectorised functions are called. What it
// computes is arranged to be finite throughout; it must be linked without -ffast-math, which would flush
// subnormals in the whole program.
#include "ort_truth.h"

#include <algorithm>
#include <cmath>

namespace apa {
namespace {

constexpr double kLog2E = 1.4426950408889634074;
constexpr double kOverflow = 700;  // exp(-exp(700)) is 0 in every type

}  // namespace

void true_gate(const float* z, double* gate, double* log2_gate, size_t n, double lambda, double kappa) {
  if (lambda == 0) {
    for (size_t i = 0; i < n; i++) {
      const double log_gate = -std::exp(std::min(-kappa * z[i], kOverflow));
      log2_gate[i] = log_gate * kLog2E;
      gate[i] = std::exp(std::max(log_gate, -kOverflow));
    }
    return;
  }
  const double log_lambda = std::log(lambda), rate = -1 / lambda;
  for (size_t i = 0; i < n; i++) {
    const double t = log_lambda - kappa * z[i];
    const double log_gate = rate * (std::max(t, 0.0) + std::log1p(std::exp(-std::abs(t))));
    log2_gate[i] = log_gate * kLog2E;
    gate[i] = std::exp(std::max(log_gate, -kOverflow));
  }
}

}  // namespace apa
