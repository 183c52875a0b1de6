// Holds a float32 kernel against float64 over the bit patterns 0, stride, 2*stride, ... of 2^32.
//
//     ort_float32_sweep LAMBDA KAPPA STRIDE THREADS KERNEL SET     prints one line of JSON
//
// KERNEL: best, exact, acc or pw. SET: none, avx2 or avx512. All but exact flush: their results are normal or 0. Of pw
// the sign of every result counts, and that no gate is above 1; its small results have no relative accuracy.
// Stride 1 is every float there is. An odd stride visits every exponent of both signs 2^23/stride times.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "layer.h"
#include "ort_choices.h"
#include "ort_truth.h"

namespace {

using apa::Choice;
using apa::Element;
using apa::Kind;
using apa::Layer;

constexpr size_t kBlock = 4096;

// What one kind of output showed at worst. `ulp_*`: error in units in the last place of the true value,
// where the true gate is above the bound in the name. `scaled`: ulp / (2 + |log2 APA|), for normal results.
struct Worst {
  bool flushes = false, small_count = true;  // whether a small result has to be accurate by its own size
  double absolute = 0;  // |error| / max(1, |truth|)
  double ulp_tenth = 0, ulp_thousandth = 0, ulp_1e7 = 0, ulp = 0, scaled = 0;
  float at = 0;  // the input of `scaled`
  size_t wrong_specials = 0;

  void join(const Worst& w) {
    if (w.scaled > scaled) at = w.at;
    absolute = std::max(absolute, w.absolute);
    ulp_tenth = std::max(ulp_tenth, w.ulp_tenth);
    ulp_thousandth = std::max(ulp_thousandth, w.ulp_thousandth);
    ulp_1e7 = std::max(ulp_1e7, w.ulp_1e7);
    ulp = std::max(ulp, w.ulp);
    scaled = std::max(scaled, w.scaled);
    wrong_specials += w.wrong_specials;
  }

  void print(const char* name, const char* kernel) const {
    std::printf("\"%s\": {\"kernel\": \"%s\", \"absolute\": %.4g, \"ulp_p0.1\": %.3g, \"ulp_p1e-3\": %.3g, \"ulp_p1e-7\": %.3g, "
                "\"ulp\": %.4g, \"scaled\": %.3g, \"at\": %.9g, \"wrong_specials\": %zu}",
                name, kernel, absolute, ulp_tenth, ulp_thousandth, ulp_1e7, ulp, scaled, static_cast<double>(at),
                wrong_specials);
  }
};

// The distance of neighbouring floats around `truth`: its power of two, taken from the bits, times 2^-23.
double ulp_of(double truth) {
  uint64_t bits;
  std::memcpy(&bits, &truth, sizeof bits);
  bits &= 0x7ff0000000000000u;
  double power;
  std::memcpy(&power, &bits, sizeof power);
  return std::max(power, 0x1p-126) * 0x1p-23;
}

void hold(Worst& worst, float z, float got, double truth, double gate, double log2_gate) {
  if (!(std::abs(truth) < 0x1.ffffffp127)) {  // rounds to infinity
    worst.wrong_specials += got != static_cast<float>(truth);
    return;
  }
  const double error = std::abs(got - truth);
  worst.wrong_specials += std::signbit(got) != std::signbit(truth) || (gate == truth && got > 1);
  if (worst.flushes && !worst.small_count && std::abs(got) < 0x1p-126f) {
    worst.wrong_specials += got != 0;
    worst.absolute = std::max(worst.absolute, error);
    return;
  }
  if (worst.flushes && std::abs(got) < 0x1p-126f) {
    // The kernel's own error, at most 384 ulp there, may carry a result over the border.
    worst.wrong_specials += got != 0 || std::abs(truth) >= 0x1p-126 * (1 + 0x1p-14);
    return;
  }
  if (!(error <= std::numeric_limits<double>::max())) {
    worst.wrong_specials++;
    return;
  }
  worst.absolute = std::max(worst.absolute, error / std::max(1.0, std::abs(truth)));
  const double ulp = error / ulp_of(truth);
  worst.ulp = std::max(worst.ulp, ulp);
  if (gate > 1e-1) worst.ulp_tenth = std::max(worst.ulp_tenth, ulp);
  if (gate > 1e-3) worst.ulp_thousandth = std::max(worst.ulp_thousandth, ulp);
  if (gate > 1e-7) worst.ulp_1e7 = std::max(worst.ulp_1e7, ulp);
  if (ulp / (2 - log2_gate) > worst.scaled) worst.scaled = ulp / (2 - log2_gate), worst.at = z;
}

// The limits for an infinite z, and NaN for NaN: what PyTorch gives.
double special(Kind kind, double z, double kappa) {
  if (std::isnan(z) || kappa == 0) return std::nan("");
  const double gate = z * kappa > 0 ? 1 : 0;
  return kind == Kind::Gate ? gate : z * gate;
}

struct Sweep {
  double lambda, kappa;
  uint64_t stride;
  Choice choice;
  Layer gate{Kind::Gate, Element::Float32, {{lambda}, {kappa}}, choice};
  Layer unit{Kind::Unit, Element::Float32, {{lambda}, {kappa}}, choice};
  std::atomic<uint64_t> next{0};

  void work(Worst& gates, Worst& units);
  void block(const std::vector<float>& z, size_t n, Worst& gates, Worst& units) const;
};

void Sweep::block(const std::vector<float>& z, size_t n, Worst& gates, Worst& units) const {
  static thread_local std::vector<float> safe(kBlock), gate_of(kBlock), unit_of(kBlock);
  static thread_local std::vector<double> truth(kBlock), log2_truth(kBlock);
  for (size_t i = 0; i < n; i++) safe[i] = std::isfinite(z[i]) ? z[i] : 0;
  apa::true_gate(safe.data(), truth.data(), log2_truth.data(), n, lambda, kappa);
  const apa::Geometry all{1, n, 1, n};
  gate.run(z.data(), gate_of.data(), all, 0, n);
  unit.run(z.data(), unit_of.data(), all, 0, n);
  for (size_t i = 0; i < n; i++) {
    if (std::isfinite(z[i])) {
      hold(gates, z[i], gate_of[i], truth[i], truth[i], log2_truth[i]);
      hold(units, z[i], unit_of[i], z[i] * truth[i], truth[i], log2_truth[i]);
      continue;
    }
    const double g = special(Kind::Gate, z[i], kappa), u = special(Kind::Unit, z[i], kappa);
    gates.wrong_specials += std::isnan(g) ? !std::isnan(gate_of[i]) : gate_of[i] != g;
    units.wrong_specials += std::isnan(u) ? !std::isnan(unit_of[i]) : unit_of[i] != u;
  }
}

void Sweep::work(Worst& gates, Worst& units) {
  std::vector<float> z(kBlock);
  const uint64_t count = ((uint64_t{1} << 32) + stride - 1) / stride;
  for (uint64_t first; (first = next.fetch_add(kBlock)) < count;) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(kBlock, count - first));
    for (size_t i = 0; i < n; i++) z[i] = apa::as_float(static_cast<uint32_t>((first + i) * stride));
    block(z, n, gates, units);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  const char* kernel = std::strcmp(argv[5], "best") ? argv[5] : "";
  Sweep sweep{std::atof(argv[1]), std::atof(argv[2]), std::strtoull(argv[3], nullptr, 10),
              {apa::wanted_kernel(kernel, "KERNEL"), apa::set_of(argv[6])}};
  const size_t threads = std::strtoull(argv[4], nullptr, 10);
  Worst none;
  none.flushes = flushes(sweep.choice);
  std::vector<Worst> gates(threads, none), units(threads, none);
  for (Worst& worst : gates) worst.small_count = std::strcmp(sweep.gate.kernel(), "pw");
  for (Worst& worst : units) worst.small_count = std::strcmp(sweep.unit.kernel(), "pw");
  std::vector<std::thread> pool;
  for (size_t t = 0; t < threads; t++) pool.emplace_back([&, t] { sweep.work(gates[t], units[t]); });
  for (auto& thread : pool) thread.join();
  for (size_t t = 1; t < threads; t++) gates[0].join(gates[t]), units[0].join(units[t]);
  std::printf("{\"lambda\": %.9g, \"kappa\": %.9g, \"stride\": %llu, ", sweep.lambda, sweep.kappa,
              static_cast<unsigned long long>(sweep.stride));
  gates[0].print("gate", sweep.gate.kernel());
  std::printf(", ");
  units[0].print("unit", sweep.unit.kernel());
  std::printf("}\n");
}
