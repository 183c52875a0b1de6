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
// Below: Pw of half types ends where Acc is to take over; Acc a little below where y * 2^v is 0 for |y| <= 2^26.
struct Ends {
  double top, bottom;
};

Ends ends(Element element, Mode mode) {
  const double top = element == Element::Float16 ? 0x1p-14 : element == Element::Bfloat16 ? 0x1p-11 : 0x1p-26;
  if (mode == Mode::Pw) return {top, 24 * kLn2};
  return {top, (element == Element::Float16 ? 25 + 17 : element == Element::Bfloat16 ? 134 + 26 : 150 + 28) * kLn2};
}

constexpr double kFarthest = 0x1p26;

// float32's Pw: the bounds of apa/math.h, and what of a result is nothing: below that it is 0, and closer to 1 the gate
// is 1. All relative to max(1, |result|).
constexpr double kGateBound = 0x1p-23, kUnitBound = 0x1p-22, kNothing = 0x1p-24;

// The share of these that a table may reach where it is looked at. Between those numbers it may be further off, in wide
// segments by up to a hundredth.
constexpr double kReached = 0.98;

// What the relative error of a half type's gate may be: 0.4 of a last place, so that rounding stays within 1.
double allowed(Element element) { return element == Element::Float16 ? 0.4 * 0x1p-11 : 0.4 * 0x1p-8; }

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
  static const Interpolation made[] = {Interpolation(3), Interpolation(4), Interpolation(5), Interpolation(6), Interpolation(7)};
  return made[degree - 3];
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

// For float32's Pw: from where |y| * APA falls below `kNothing`, y being 1 for a gate and z for a unit. A kappa above
// 1 and a gate get the table of kappa 1, which reaches a little further down: |u| is above 1 there.
Range whole_range(const Curve& curve, Kind kind) {
  const double size = kind == Kind::Gate ? 1 : std::min(1.0, std::abs(curve.kappa));
  double nats = -std::log(kNothing * size);
  for (int i = 0; i < 12; i++) nats = std::log(-curve.where(nats) / (kNothing * size));
  return {curve.where(nats), curve.where(kNothing), false};
}

void bound(Table& t, double low, double high, double kappa) {
  const float from = static_cast<float>(low / kappa), to = static_cast<float>(high / kappa);
  t.low = std::min(from, to);
  t.high = std::max(from, to);
}

// Places the segments: z*scale runs over one less than there are, so that rounding never leaves them.
void place(Table& t, const Range& r, int segments, double kappa) {
  t.scale = static_cast<float>((segments - 1.1) / (r.high - r.low) * kappa);
  const double first = r.low / kappa * static_cast<double>(t.scale);
  t.shift = VectorMath::kRounder + static_cast<float>(std::ceil(-0.5 - first));
  bound(t, r.low, r.high, kappa);
  t.mask = static_cast<uint32_t>(segments - 1);
  t.flip = kappa < 0 ? 0x80000000u : 0;
}

// The same for float32's Pw. The first segment holds 0 and the last one 1, and what lies further out is bounded to their
// centres. Their borders are at r.low and r.high, or beyond: of all offsets the one that leaves the narrowest segments.
void place_whole(Table& t, const Range& r, int segments, double kappa) {
  double scale = 0, offset = 0;
  for (int k = 1; k < segments - 1; k++) {
    const double fits = std::min((k - 0.5) / -r.low, (segments - 1.5 - k) / r.high);
    if (fits > scale) scale = fits, offset = k;
  }
  t.scale = static_cast<float>(scale * kappa);
  t.shift = VectorMath::kRounder + static_cast<float>(offset);
  bound(t, -offset / scale, (segments - 1 - offset) / scale, kappa);
  t.mask = static_cast<uint32_t>(segments - 1);
}

double offset_of(const Table& t) { return static_cast<double>(t.shift - VectorMath::kRounder); }

double centre(const Table& t, int segment) {
  return (segment - offset_of(t)) / static_cast<double>(t.scale);
}

int segments_of(const Table& t) { return static_cast<int>(t.mask) + 1; }

int place_of(const Table& t, const TableKernels& k, int segment, int power) {
  return k.by_segment ? segment * (k.degree + 1) + power : power * segments_of(t) + segment;
}

// exp(-kappa*z) at a node of every segment is a geometric sequence, here within 1e-13.
void interpolate(Table& t, const TableKernels& k, const Curve& curve) {
  const Interpolation& through = interpolation(k.degree);
  const double step = curve.kappa / static_cast<double>(t.scale), ratio = std::exp(-step);
  double power_at[kHighestDegree + 1];
  for (int i = 0; i < through.count; i++)
    power_at[i] = std::exp(-curve.kappa * centre(t, 0) - through.nodes[i] * step);
  for (int s = 0; s < segments_of(t); s++) {
    double values[kHighestDegree + 1];
    for (int i = 0; i < through.count; i++) {
      values[i] = t.mode == Mode::Pw ? curve.gate(power_at[i]) : curve.log2_gate(power_at[i]);
      power_at[i] *= ratio;
    }
    for (int power = 0; power < through.count; power++) {
      double sum = 0;
      for (int i = 0; i < through.count; i++) sum += through.powers[power][i] * values[i];
      t.values[place_of(t, k, s, power)] = static_cast<float>(sum);
    }
  }
}

// Numbers in every segment, close to both ends and wherever else the error of interpolation peaks. At an end itself, a
// float may lie in the neighbour: `end` is as far inside as a float can be off, so that each segment answers for its own.
std::vector<float> peaks_of(const Table& t, const TableKernels& k) {
  const Interpolation& through = interpolation(k.degree);
  const size_t points = static_cast<size_t>(through.count) + 1, count = points * static_cast<size_t>(segments_of(t));
  const double end = 0.5 - 0x1p-23 * segments_of(t);
  std::vector<float> z(count);
  for (size_t i = 0; i < count; i++) {
    const double f = std::min(end, std::max(-end, through.peaks[i % points]));
    const double place = centre(t, static_cast<int>(i / points));
    z[i] = std::min(t.high, std::max(t.low, static_cast<float>(place + f / static_cast<double>(t.scale))));
  }
  return z;
}

// Runs the finished kernel of a half type and holds it against float64 at `peaks_of`. Returns the u above which it
// keeps its bound: the steepest segments, lowest, may not.
double bounded_from(const Table& t, const TableKernels& k, Element element, const Curve& curve) {
  const size_t points = static_cast<size_t>(interpolation(k.degree).count) + 1;
  const std::vector<float> z = peaks_of(t, k);
  std::vector<float> gate(z.size());
  k.of(t.mode, Kind::Gate, false)(z.data(), gate.data(), z.size(), t);
  double from = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < z.size(); i++) {
    const double truth = curve.gate(std::exp(-curve.kappa * static_cast<double>(z[i])));
    const double error = std::abs(static_cast<double>(gate[i]) - truth) / truth;
    const double upper_end = centre(t, static_cast<int>(i / points)) + 0.5 / static_cast<double>(t.scale);
    if (!(error <= allowed(element))) from = std::max(from, curve.kappa * upper_end);
  }
  return from;
}

// The polynomial that answers z, in float64, and what evaluating it in float32 may add: every fused multiply-add
// rounds its sum, f is rounded once, and so is a unit's product. The first and the last segment round nothing.
struct Evaluated {
  double value, rounding, product;
};

Evaluated evaluated(const Table& t, const TableKernels& k, float z) {
  const double position = static_cast<double>(z) * static_cast<double>(t.scale) + offset_of(t);
  const double segment = std::nearbyint(position), f = position - segment;
  const int s = static_cast<int>(segment);
  double value = 0, slope = 0, sums = 0;
  for (int power = k.degree; power >= 0; power--) {
    slope = slope * f + value;
    value = value * f + static_cast<double>(t.values[place_of(t, k, s, power)]);
    sums = power == k.degree ? 0 : sums * std::abs(f) + std::abs(value);
  }
  const bool constant = s == 0 || s == segments_of(t) - 1;
  const double half = constant ? 0 : 0x1p-24 * (1 + 0x1p-20);
  return {std::max(0.0, value), half * (sums + std::abs(f * slope)), half * std::abs(value)};
}

// Whether float32's Pw keeps its bound, by what docs/kernels.md adds up: the polynomial's distance from the curve at
// `peaks_of`, and all that rounding may do. That the finished kernel does the sums counted here is seen on this
// processor.
bool keeps_bound(const Table& t, const TableKernels& k, Kind kind, const Curve& curve) {
  const std::vector<float> z = peaks_of(t, k);
  std::vector<float> y(z.size());
  k.of(t.mode, kind, false)(z.data(), y.data(), z.size(), t);
  for (size_t i = 0; i < z.size(); i++) {
    const double factor = kind == Kind::Gate ? 1 : static_cast<double>(z[i]), size = std::abs(factor);
    const double truth = curve.gate(std::exp(-curve.kappa * static_cast<double>(z[i])));
    const Evaluated gate = evaluated(t, k, z[i]);
    const double rounding = size * (gate.rounding + (kind == Kind::Gate ? 0 : gate.product));
    const double most = kind == Kind::Gate ? kGateBound : kUnitBound * std::max(1.0, size * truth);
    const bool within = size * std::abs(gate.value - truth) + rounding <= kReached * most;
    if (!(within && std::abs(static_cast<double>(y[i]) - factor * gate.value) <= rounding)) return false;
  }
  return true;
}

bool follows(double lambda, double kappa) {
  const double size = std::abs(kappa);
  return size >= 0x1p-30 && size <= 0x1p30 && lambda <= 0x1p20;
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
  if (!follows(lambda, kappa)) return false;
  const Curve curve{lambda, kappa};
  const Range r = range(curve, element, mode);
  if (!(r.high - r.low >= 1)) return false;
  table.mode = mode;
  table.exact = coefficients<float>(lambda, kappa);
  place(table, r, mode == Mode::Pw ? kernels.pw : kernels.acc, kappa);
  interpolate(table, kernels, curve);
  const double size = std::abs(kappa);
  table.edge = static_cast<float>(mode == Mode::Acc && !r.linear ? -kFarthest : r.low / size);
  if (mode == Mode::Acc) return true;
  const double from = std::max(r.low, bounded_from(table, kernels, element, curve));
  table.edge = static_cast<float>(from / size);
  return from <= latest_edge;
}

bool fit_whole(Table& table, const TableKernels& kernels, Kind kind, double lambda, double kappa) {
  if (!follows(lambda, kappa)) return false;
  const Curve curve{lambda, kappa};
  const Range r = whole_range(curve, kind);
  table.mode = Mode::Pw;
  for (int segments = kernels.fewest; segments <= kernels.pw; segments *= 2) {
    place_whole(table, r, segments, kappa);
    interpolate(table, kernels, curve);
    for (int power = 0; power <= kernels.degree; power++) {
      table.values[place_of(table, kernels, 0, power)] = 0;
      table.values[place_of(table, kernels, segments - 1, power)] = power == 0 ? 1 : 0;
    }
    if (keeps_bound(table, kernels, kind, curve)) return true;
  }
  return false;
}

}  // namespace apa
