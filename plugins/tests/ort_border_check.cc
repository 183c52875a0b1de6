// Holds every table that float32's Pw accepts against float64 where its segments meet: there a polynomial is furthest
// from the curve.
//
//     ort_border_check SET          SET: avx2, avx512 or neon; prints what is outside the bound, and exits 1
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "ort_choices.h"
#include "ort_truth.h"

namespace {

using apa::Kind;

// Floats on both sides of each border: the last of one segment and the first of the next are among them.
std::vector<float> borders(const apa::Table& t) {
  const double scale = static_cast<double>(t.scale), offset = static_cast<double>(t.shift - apa::VectorMath::kRounder);
  std::vector<float> z;
  for (uint32_t segment = 0; segment < t.mask; segment++) {
    const float border = static_cast<float>((segment + 0.5 - offset) / scale);
    float from = border, to = border;
    for (int i = 0; i < 8; i++) {
      z.push_back(from = std::nextafter(from, -INFINITY));
      z.push_back(to = std::nextafter(to, INFINITY));
    }
  }
  return z;
}

// How far the kernel is from float64, in shares of the bound.
double worst(const apa::Table& t, const apa::TableKernels& kernels, Kind kind, double lambda, double kappa) {
  const std::vector<float> z = borders(t);
  std::vector<float> y(z.size());
  std::vector<double> gate(z.size()), unused(z.size());
  kernels.of(t.mode, kind, false)(z.data(), y.data(), z.size(), t);
  apa::true_gate(z.data(), gate.data(), unused.data(), z.size(), lambda, kappa);
  double share = 0;
  for (size_t i = 0; i < z.size(); i++) {
    const double truth = kind == Kind::Gate ? gate[i] : static_cast<double>(z[i]) * gate[i];
    const double bound = (kind == Kind::Gate ? 0x1p-23 : 0x1p-22) * std::max(1.0, std::abs(truth));
    share = std::max(share, std::abs(static_cast<double>(y[i]) - truth) / bound);
  }
  return share;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  const apa::TableKernels& kernels = *apa::table_kernels(apa::set_of(argv[1]), apa::Element::Float32);
  int accepted = 0, outside = 0;
  for (int i = 0; i <= 60; i++) {
    const double lambda = i == 0 ? 0 : 1e-4 * std::pow(10, i / 11.0);  // to 28
    for (int j = 0; j <= 120; j++) {
      const double kappa = 0.003 * std::pow(10, j / 24.0) * (j % 2 ? -1 : 1);  // to 300
      for (Kind kind : {Kind::Gate, Kind::Unit}) {
        apa::Table table;
        if (!apa::fit_whole(table, kernels, kind, lambda, kappa)) continue;
        accepted++;
        const double share = worst(table, kernels, kind, lambda, kappa);
        if (share <= 1) continue;
        outside++;
        std::printf("lambda %.6g, kappa %.6g, kind %d: %.4f of the bound\n", lambda, kappa, static_cast<int>(kind), share);
      }
    }
  }
  std::printf("%d accepted, %d outside\n", accepted, outside);
  return accepted < 1000 || outside ? 1 : 0;
}
