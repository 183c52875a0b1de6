// Holds a kernel's float16 and bfloat16 results against float64 for all 65,536 inputs and 45 pairs of lambda and
// kappa: within 1 ulp of the correctly rounded, subnormals included.
//
//     ort_half_sweep KERNEL SET     exact, acc or pw; none, avx2 or avx512. Exits 1 where one is further away.
#include <cmath>
#include <cstdio>
#include <vector>

#include "maths_check.h"
#include "ort_choices.h"
#include "ort_truth.h"

namespace {

using namespace apa;

constexpr double kLambdas[] = {0, 1e-8, 1e-4, 0.01, 0.2, 0.5, 1, 3, 100};
constexpr double kKappas[] = {1, -0.7, 0, 0.05, 12};
constexpr size_t kCount = 65536;

struct Type {
  Element element;
  const char* name;
  int digits, bottom, top;  // significant bits; exponents of the smallest subnormal and past the largest number
  float (*read)(uint16_t bits);
};

const Type kTypes[] = {
    {Element::Float16, "float16", 11, -24, 16, [](uint16_t bits) { return widened(Half{bits}); }},
    {Element::Bfloat16, "bfloat16", 8, -133, 128, [](uint16_t bits) { return widened(Bfloat16{bits}); }},
};

// The number of the type nearest to `value`, ties to even, counted from 0: neighbours differ by 1.
double rank(const Type& type, double value) {
  const double magnitude = std::fmin(std::abs(value), std::ldexp(1, type.top));
  if (magnitude == 0) return 0;
  const int quantum = std::max(std::ilogb(magnitude) - type.digits + 1, type.bottom);
  const double rounded = std::nearbyint(std::ldexp(magnitude, -quantum));
  return std::copysign(rounded + (quantum - type.bottom) * std::ldexp(1, type.digits - 1), value);
}

// The limits for an infinite z: PyTorch's.
double true_value(Kind kind, double z, double gate, double kappa) {
  if (std::isinf(z)) gate = kappa == 0 ? std::nan("") : z * kappa > 0 ? 1 : 0;
  return kind == Kind::Gate ? gate : z * gate;
}

size_t sweep(const Type& type, Kind kind, double lambda, double kappa, const Choice& choice) {
  static std::vector<uint16_t> x(kCount), y(kCount);
  static std::vector<float> z(kCount), safe(kCount);
  static std::vector<double> gate(kCount), log2_gate(kCount);
  for (size_t i = 0; i < kCount; i++) {
    x[i] = static_cast<uint16_t>(i);
    z[i] = type.read(x[i]);
    safe[i] = std::isfinite(z[i]) ? z[i] : 0;
  }
  true_gate(safe.data(), gate.data(), log2_gate.data(), kCount, lambda, kappa);
  const Row row(lambda, kappa, kind, type.element, choice);
  if (!row.run_element(x.data(), y.data(), kCount)) return 0;
  for (size_t i = 0; i < kCount; i++) {
    const double got = type.read(y[i]), want = true_value(kind, z[i], gate[i], kappa);
    const bool good = std::isnan(z[i]) || std::isnan(want) ? std::isnan(got)
                                                           : std::abs(rank(type, got) - rank(type, want)) <= 1;
    check::that(good, type.name, z[i], lambda, kappa, got, want);
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const Choice choice{wanted_kernel(argv[1], "KERNEL"), set_of(argv[2])};
  size_t swept = 0;
  for (const Type& type : kTypes)
    for (double lambda : kLambdas)
      for (double kappa : kKappas)
        for (Kind kind : {Kind::Gate, Kind::Unit})
          swept += sweep(type, kind, static_cast<float>(lambda), static_cast<float>(kappa), choice);
  std::printf("%zu of 180 with a table, %d failures\n", swept, check::failures);
  return check::failures != 0;
}
