// Tables for one lambda and kappa, in float64. The curve depends on u = kappa*z alone:
//
//     ln APA = -1/lambda * log1p(lambda * exp(-u))        lambda = 0: -exp(-u)
//
// Each segment interpolates at its Chebyshev nodes, which is within a factor of 2 of the best polynomial for
// every degree used here.
#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "table.h"

namespace apa {
namespace {

constexpr double kLn2 = 0.69314718055994530942;
constexpr int kHighestDegree = 7;

// Where the table may end, in nats of -ln APA. Above the gate the rest of the curve is 1 to half a last place.
// Below: Pw ends where Acc is to take over; Acc a little below where y * 2^v is 0 for |y| <= 2^26.
struct Ends {
  double top, bottom;
};

Ends ends(Element element, Mode mode) {
  const double top = element == Element::Float16 ? 0x1p-14 : element == Element::Bfloat16 ? 0x1p-11 : 0x1p-26;
  if (mode == Mode::Pw) return {top, 24 * kLn2};
  return {top, (element == Element::Float16 ? 25 + 17 : element == Element::Bfloat16 ? 134 + 26 : 150 + 28) * kLn2};
}

constexpr double kFarthest = 0x1p26;

// What the relative error of the gate may be, in the units of 2^-24 * (2 + |log2 APA|): less than the contract's
// by the two roundings that a unit adds. Half types: 0.4 of a last place, so that rounding stays within 1.
double allowed(Element element, double lambda, double gate) {
  if (element == Element::Float16) return 0.4 * 0x1p-11;
  if (element == Element::Bfloat16) return 0.4 * 0x1p-8;
  const double b = lambda < kSmallestLambda ? 2 : lambda < kLargeFrom ? 3 : 2.5;
  const double relative = 0x1p-24 * (b * (2 - std::log2(gate)) - 2);
  return std::min(relative, 1.1e-7 / gate);
}
constexpr double kAlwaysAllowed = 1.1e-7;  // of a float32 gate, whatever it is

struct Curve {
  double lambda, kappa;

  // kappa*z where -ln APA is `n`.
  double where(double n) const {
    if (lambda < kSmallestLambda) return -std::log(n);
    const double power = lambda * n;
    return std::log(lambda) - (power > 30 ? power : std::log(std::expm1(power)));
  }
  // APA at -ln(power) = kappa*z. The plain logarithm is wrong by 2^-53 / lambda here, and takes half the time of log1p.
  double gate(double power) const {
    if (lambda < kSmallestLambda) return std::exp(-power);
    return std::exp((lambda < 1e-3 ? std::log1p(lambda * power) : std::log(1 + lambda * power)) / -lambda);
  }
  double log2_gate(double power) const {
    return (lambda < kSmallestLambda ? power : std::log1p(lambda * power) / lambda) / -kLn2;
  }
};

// Powers of f from values at the Chebyshev nodes of [-1/2, 1/2]: the inverse of their Vandermonde matrix.
struct Interpolation {
  int count;
  double nodes[kHighestDegree + 1];
  double peaks[kHighestDegree + 2];  // where the error of interpolation is largest: T(count) is 1 or -1
  double powers[kHighestDegree + 1][kHighestDegree + 1];  // [power][node]

  explicit Interpolation(int degree) : count(degree + 1), powers{} {
    for (int i = 0; i < count; i++) nodes[i] = 0.5 * std::cos(3.14159265358979323846 * (i + 0.5) / count);
    for (int i = 0; i <= count; i++) peaks[i] = 0.5 * std::cos(3.14159265358979323846 * i / count);
    for (int i = 0; i < count; i++) lagrange(i);
  }

  // The polynomial that is 1 at node i and 0 at the others, multiplied out.
  void lagrange(int i) {
    double product[kHighestDegree + 2] = {1};
    int degree = 0;
    for (int j = 0; j < count; j++) {
      if (j == i) continue;
      const double scale = 1 / (nodes[i] - nodes[j]);
      for (int k = ++degree; k >= 0; k--)
        product[k] = ((k > 0 ? product[k - 1] : 0) - nodes[j] * product[k]) * scale;
    }
    for (int k = 0; k < count; k++) powers[k][i] = product[k];
  }
};

const Interpolation& interpolation(int degree) {
  static const Interpolation made[] = {Interpolation(3), Interpolation(4), Interpolation(7)};
  return made[degree == 3 ? 0 : degree == 4 ? 1 : 2];
}

// The part of u that the table covers; empty (high <= low) where none is worth a table.
struct Range {
  double low, high;
  bool linear;  // below it log2 APA is a straight line, not yet 0
};

// Below t = ln(lambda) - u = 17 the curve is a straight line to 2^-24, and may be as long as you like.
Range range(const Curve& curve, Element element, Mode mode) {
  const Ends e = ends(element, mode);
  const double bottom = curve.where(e.bottom), line = std::log(std::max(curve.lambda, kSmallestLambda)) - 17;
  return {std::max(bottom, line), curve.where(e.top), line > bottom};
}

// Places the segments: z*scale runs over one less than there are, so that rounding never leaves them.
void place(Table& t, const Range& r, int segments, double kappa) {
  t.scale = static_cast<float>((segments - 1.1) / (r.high - r.low) * kappa);
  const double first = r.low / kappa * static_cast<double>(t.scale);
  t.shift = VectorMath::kRounder + static_cast<float>(std::ceil(-0.5 - first));
  const float low = static_cast<float>(r.low / kappa), high = static_cast<float>(r.high / kappa);
  t.low = std::min(low, high);
  t.high = std::max(low, high);
  t.mask = static_cast<uint32_t>(segments - 1);
  t.flip = kappa < 0 ? 0x80000000u : 0;
}

double centre(const Table& t, int segment) {
  return (segment - static_cast<double>(t.shift - VectorMath::kRounder)) / static_cast<double>(t.scale);
}

// exp(-kappa*z) at a node of every segment is a geometric sequence, here within 1e-13.
void interpolate(Table& t, const TableKernels& k, const Curve& curve) {
  const Interpolation& through = interpolation(k.degree);
  const double step = curve.kappa / static_cast<double>(t.scale), ratio = std::exp(-step);
  double power_at[kHighestDegree + 1];
  for (int i = 0; i < through.count; i++)
    power_at[i] = std::exp(-curve.kappa * centre(t, 0) - through.nodes[i] * step);
  const int segments = k.count(t.mode);
  for (int s = 0; s < segments; s++) {
    double values[kHighestDegree + 1];
    for (int i = 0; i < through.count; i++) {
      values[i] = t.mode == Mode::Pw ? curve.gate(power_at[i]) : curve.log2_gate(power_at[i]);
      power_at[i] *= ratio;
    }
    for (int power = 0; power < through.count; power++) {
      double sum = 0;
      for (int i = 0; i < through.count; i++) sum += through.powers[power][i] * values[i];
      t.values[k.by_segment ? s * through.count + power : power * segments + s] = static_cast<float>(sum);
    }
  }
}

// Runs the finished kernel and holds it against float64, at the ends of every segment and where the error of
// interpolation peaks. Returns the u above which it keeps its bound: the steepest segments, lowest, may not.
double bounded_from(const Table& t, const TableKernels& k, Element element, const Curve& curve) {
  const Interpolation& through = interpolation(k.degree);
  const size_t points = static_cast<size_t>(through.count) + 1, count = points * static_cast<size_t>(k.count(t.mode));
  std::vector<float> z(count), gate(count);
  for (size_t i = 0; i < count; i++) {
    const double f = through.peaks[i % points], place = centre(t, static_cast<int>(i / points));
    z[i] = std::min(t.high, std::max(t.low, static_cast<float>(place + f / static_cast<double>(t.scale))));
  }
  k.of(t.mode, Kind::Gate, false)(z.data(), gate.data(), count, t);
  double from = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < count; i++) {
    const double truth = curve.gate(std::exp(-curve.kappa * static_cast<double>(z[i])));
    const double error = std::abs(static_cast<double>(gate[i]) - truth) / truth;
    const bool kept = error <= kAlwaysAllowed || error <= allowed(element, curve.lambda, truth);
    const size_t upper_end = i - i % points;  // of the segment: f = 1/2
    if (!kept) from = std::max(from, curve.kappa * static_cast<double>(z[upper_end]));
  }
  return from;
}

}  // namespace

const TableKernels* table_kernels(Instructions instructions, Element element) {
  if (element == Element::Float64 || instructions == Instructions::None) return nullptr;
#if defined(__x86_64__)
  return instructions == Instructions::Avx512 ? &avx512_kernels(element) : &avx2_kernels(element);
#elif defined(__aarch64__)
  return &neon_kernels(element);
#else
  return nullptr;
#endif
}

bool fit(Table& table, const TableKernels& kernels, Element element, Mode mode, double lambda, double kappa,
         double latest_edge) {
  const double size = std::abs(kappa);
  if (!(size >= 0x1p-30 && size <= 0x1p30 && lambda <= 0x1p20)) return false;
  const Curve curve{lambda, kappa};
  const Range r = range(curve, element, mode);
  if (!(r.high - r.low >= 1)) return false;
  table.mode = mode;
  table.exact = coefficients<float>(lambda, kappa);
  place(table, r, kernels.count(mode), kappa);
  interpolate(table, kernels, curve);
  table.edge = static_cast<float>(mode == Mode::Acc && !r.linear ? -kFarthest : r.low / size);
  if (mode == Mode::Acc) return true;
  const double from = std::max(r.low, bounded_from(table, kernels, element, curve));
  table.edge = static_cast<float>(from / size);
  return from <= latest_edge;
}

}  // namespace apa
