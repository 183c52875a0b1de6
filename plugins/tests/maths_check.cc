// The header's contracts, as tables. Exits 1 where one does not hold. The planted faults of
// test_maths.py are compiled with this file: a line that no fault turns red tests nothing.
#include "maths_check.h"

#include <cstdint>
#include <initializer_list>
#include <limits>

namespace {

using namespace apa;

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kMax = 3.4028234663852886e38;  // the largest float

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
constexpr bool kFused = true;
#else
constexpr bool kFused = false;
#endif

// The C library in the place of a device's instructions, with their documented absolute error near 1:
// lg2.approx is right to 2^-22 there, so a result below that is lost.
struct Library {
  static float exp2(float x) { return std::exp2(x); }
  static float log2(float x) {
    const float value = std::log2(x);
    return x < 2.0f ? std::round(value * 0x1p22f) * 0x1p-22f : value;
  }
};
using Device = GuardedMath<Library>;

struct Special {
  const char* what;
  double z, lambda, kappa, gate, unit;
};

const Special kSpecials[] = {
    {"NaN stays", kNan, 0.5, 1, kNan, kNan},
    {"NaN stays, large lambda", kNan, 2, 1, kNan, kNan},
    {"NaN stays, limit", kNan, 0, 1, kNan, kNan},
    {"+inf", kInf, 0.1, 1, 1, kInf},
    {"+inf, large lambda", kInf, 3, 1, 1, kInf},
    {"+inf, limit", kInf, 0, 1, 1, kInf},
    {"+inf, a kappa with a low half", kInf, 3, 1.1f, 1, kInf},
    {"+inf, one of the other sign", kInf, 3, 1.2f, 1, kInf},
    {"+inf, an ordinary one", kInf, 3, 0.7f, 1, kInf},
    {"-inf", -kInf, 0.1, 1, 0, kNan},
    {"-inf, large lambda", -kInf, 3, 1.1f, 0, kNan},
    {"-inf, limit", -kInf, 0, 1, 0, kNan},
    {"negative kappa, -inf", -kInf, 3, -1, 1, -kInf},
    {"negative kappa, +inf", kInf, 0.1, -1, 0, kNan},
    {"kappa 0 at infinity", kInf, 3, 0, kNan, kNan},
    {"kappa 0 at infinity, small lambda", -kInf, 0.1, 0, kNan, kNan},
    {"the largest float", kMax, 0.1, 1, 1, kMax},
    {"the largest float, large lambda", kMax, 3, 1, 1, kMax},
    {"the largest float, downwards", -kMax, 0.1, 1, 0, -0.0},
    {"the largest float, downwards, large lambda", -kMax, 3, 1, 0, -0.0},
    {"-0 keeps its sign", -0.0, 1, 0, 0.5, -0.0},
    {"+0", 0.0, 1, 7, 0.5, 0.0},
    {"deep underflow", -1e4, 0.01, 1, 0, -0.0},
};

template <class Math>
void specials() {
  for (const Special& s : kSpecials) {
    using Real = typename Math::Real;
    const auto c = coefficients<Real>(s.lambda, s.kappa);
    const double g = gate<Math>(static_cast<Real>(s.z), c), u = unit<Math>(static_cast<Real>(s.z), c);
    check::that(check::same(g, s.gate), s.what, s.z, s.lambda, s.kappa, g, s.gate);
    check::that(check::same(u, s.unit), s.what, s.z, s.lambda, s.kappa, u, s.unit);
  }
}

struct Pair {
  double lambda, kappa;
  double fused, plain;  // the contract's b with and without an fma instruction
};

const Pair kPairs[] = {
    {0, 1, 2, 5},          {0, -0.8, 2, 5},        {1e-30, 1.2f, 3, 5},   {1e-8f, 1.1f, 3, 5},
    {1e-4f, 0.7f, 3, 5},   {0.01f, -1.3f, 3, 5},   {0.2f, 3, 3, 5},       {0.24f, 0.3f, 3, 5},
    {0.25f, 1.1f, 2.5, 3}, {0.5f, 1, 2.5, 3},      {1, 1.7f, 2.5, 3},     {2, 0, 2.5, 3},
    {10, -2.3f, 2.5, 3},   {100, 30, 2.5, 3},      {1e8f, 1e3f, 2.5, 3},
};

// For aarch64 it runs in an emulator, which has the wide numbers of the truth in software.
#ifdef __aarch64__
constexpr int kGrid = 1000;
#else
constexpr int kGrid = 4000;
#endif

// Calls visit(z) where the gate changes: evenly up to where log2 APA is about -400, and at every
// magnitude of both signs.
template <class Visit>
void inputs(const Pair& p, Visit visit) {
  const double reach = (30 + 200 * p.lambda) / (p.kappa == 0 ? 1 : std::abs(p.kappa));
  for (int i = -kGrid; i <= kGrid; i++) visit(static_cast<float>(reach * i / kGrid));
  for (int e = -149; e < 128; e++)
    for (float m : {1.0f, 1.37f, -1.0f, -1.99f}) visit(std::ldexp(m, e));
}

void vector_accuracy() {
  for (const Pair& p : kPairs) {
    const auto c = coefficients<float>(p.lambda, p.kappa);
    inputs(p, [&](float z) {
      const double log2_gate = static_cast<double>(check::log2_gate(z, p.lambda, p.kappa));
      const double b = (kFused ? p.fused : p.plain) * (2 - log2_gate);
      const double g = std::exp2(log2_gate), u = z * g;
      const double got_g = gate<VectorMath>(z, c), got_u = unit<VectorMath>(z, c);
      // Where b grows without limit, far below the last subnormal, 0 is due: half of 2^-149 away at most.
      const double bound_g = log2_gate < -300 ? 0x1p-150 : b * check::float_ulp(g);
      const double bound_u = log2_gate < -300 ? 0x1p-150 : b * check::float_ulp(u);
      check::that(std::abs(got_g - g) <= bound_g, "gate, relative", z, p.lambda, p.kappa, got_g, g);
      check::that(std::abs(got_g - g) <= 1.2e-7, "gate, absolute", z, p.lambda, p.kappa, got_g, g);
      check::that(std::abs(got_u - u) <= bound_u, "unit, relative", z, p.lambda, p.kappa, got_u, u);
    });
  }
}

void device_accuracy() {
  for (const Pair& p : kPairs) {
    const auto c = coefficients<float>(p.lambda, p.kappa);
    inputs(p, [&](float z) {
      const double g = std::exp2(static_cast<double>(check::log2_gate(z, p.lambda, p.kappa)));
      const double got_g = gate<Device>(z, c), got_u = unit<Device>(z, c);
      check::that(std::abs(got_g - g) <= 6e-7, "device gate", z, p.lambda, p.kappa, got_g, g);
      if (p.lambda <= 1 && std::abs(p.kappa) >= 0.25)
        check::that(std::abs(got_u - z * g) <= 1.2e-6 * std::fmax(1, std::abs(z * g)), "device unit", z,
                    p.lambda, p.kappa, got_u, z * g);
    });
  }
}

// log1p, exp2, two products and the parameters' own rounding: 8 of 2^-53, times the size of log2 APA.
void double_accuracy() {
  for (const Pair& p : kPairs) {
    const auto c = coefficients<double>(p.lambda, p.kappa);
    inputs(p, [&](float z) {
      const long double log2_gate = check::log2_gate(z, p.lambda, p.kappa);
      const double g = static_cast<double>(std::exp2(log2_gate));
      const double bound = 8 * (1 - static_cast<double>(log2_gate)) * check::ulp(g, 53, -1074);
      const double got_g = gate<DoubleMath>(z, c), got_u = unit<DoubleMath>(z, c);
      check::that(std::abs(got_g - g) <= bound, "double gate", z, p.lambda, p.kappa, got_g, g);
      check::that(std::abs(got_u - z * g) <= 2 * bound * std::abs(static_cast<double>(z)) + 0x1p-1074,
                  "double unit", z, p.lambda, p.kappa, got_u, z * g);
    });
  }
}

// Each primitive of VectorMath against float64: the ulp said above it.
void primitives() {
  for (int i = 0; i <= 40000; i++) {
    const float x = static_cast<float>(-126.0 * i / 40000);
    const double e = std::exp2(static_cast<double>(x)), got_e = VectorMath::exp2(x);
    check::that(std::abs(got_e - e) <= (kFused ? 1 : 1.5) * check::float_ulp(e), "exp2", x, 0, 0, got_e, e);
    const float a = static_cast<float>(-80 + 160.0 * i / 40000), hi = 1.5625f, lo = 0x1p-27f;
    const double product = static_cast<double>(a) * (static_cast<double>(hi) + lo);
    const double p = std::exp2(product), got_p = VectorMath::exp2_of_product(a, hi, lo);
    const double bound_p = (1.5 + (kFused ? 0 : std::abs(product))) * check::float_ulp(p);
    check::that(std::abs(got_p - p) <= bound_p, "exp2_of_product", a, hi, lo, got_p, p);
    const float x1 = static_cast<float>(std::exp2(-140 + 260.0 * i / 40000));
    const double l = std::log1p(static_cast<double>(x1)) * 1.4426950408889634074;
    const double got_l = VectorMath::log2_1p(x1);
    check::that(std::abs(got_l - l) <= 2 * check::float_ulp(l), "log2_1p", x1, 0, 0, got_l, l);
    const float x2 = static_cast<float>(0.25 * i / 40000);
    const double q = i ? std::log1p(static_cast<double>(x2)) / x2 * 1.4426950408889634074 : 1.4426950408889634;
    const double got_q = log2_1p_over_x(x2);
    // The fit's 2^-25.9 and one rounding of 1.44, 2^-24.5, with the small roundings before it.
    check::that(std::abs(got_q - q) <= q * 0x1p-23, "log2_1p_over_x", x2, 0, 0, got_q, q);
  }
}

// What float32 takes from slope and rate is in their low halves: together right to 2^-47.
void folding() {
  for (const Pair& p : kPairs) {
    const auto c = coefficients<float>(p.lambda, p.kappa);
    const double slope = -p.kappa * 1.4426950408889634074, rate = -1 / std::fmax(p.lambda, 0x1p-100);
    const double got_slope = static_cast<double>(c.slope) + c.slope_low;
    const double got_rate = static_cast<double>(c.rate) + c.rate_low;
    check::that(std::abs(got_slope - slope) <= 0x1p-47 * std::abs(slope), "slope", 0, p.lambda, p.kappa, got_slope,
                slope);
    check::that(std::abs(got_rate - rate) <= 0x1p-47 * std::abs(rate), "rate", 0, p.lambda, p.kappa, got_rate,
                rate);
  }
}

// A half type's number: `digits` significant bits, exponents from `bottom`.
double decoded(uint16_t bits, int mantissa_bits, int bias) {
  const int exponent = (bits & 0x7fff) >> mantissa_bits, mantissa = bits & ((1 << mantissa_bits) - 1);
  const double sign = bits & 0x8000 ? -1 : 1;
  if (exponent == 2 * bias + 1) return mantissa ? kNan : sign * kInf;
  const double value = exponent ? 1 + std::ldexp(mantissa, -mantissa_bits) : std::ldexp(mantissa, -mantissa_bits);
  return sign * std::ldexp(value, (exponent ? exponent : 1) - bias);
}

// Every number of the type: exact both ways; halfway to its neighbour goes to the even one, and a
// little more or less than halfway to the nearer one.
template <class Small, class Narrow>
void halves(const char* what, int mantissa_bits, int bias, Narrow narrow) {
  const uint16_t infinity = static_cast<uint16_t>((2 * bias + 1) << mantissa_bits);
  for (uint32_t i = 0; i < 0x10000; i++) {
    const uint16_t bits = static_cast<uint16_t>(i);
    const double want = decoded(bits, mantissa_bits, bias);
    const float wide = widened(Small{bits});
    check::that(check::same(wide, want), what, i, 0, 0, wide, want);
    const uint16_t back = narrow(wide).bits;
    const bool nan = (back & 0x7fff) > infinity;
    check::that(std::isnan(want) ? nan : back == bits, what, i, 1, 0, back, i);
    if (!((bits & 0x7fff) < infinity)) continue;
    const double next = (bits & 0x7fff) + 1 == infinity ? std::copysign(std::ldexp(1.0, bias + 1), want)
                                                        : decoded(static_cast<uint16_t>(bits + 1), mantissa_bits, bias);
    const float middle = static_cast<float>((want + next) / 2);
    if (static_cast<double>(middle) != (want + next) / 2) continue;  // no float lies halfway (bfloat16's last)
    const uint16_t up = static_cast<uint16_t>(bits + 1), even = bits & 1 ? up : bits;
    check::that(narrow(middle).bits == even, what, i, 2, 0, narrow(middle).bits, even);
    const uint16_t more = narrow(std::nextafter(middle, static_cast<float>(std::signbit(want) ? -kInf : kInf))).bits;
    check::that(more == up, what, i, 3, 0, more, up);
    const uint16_t less = narrow(std::nextafter(middle, static_cast<float>(want))).bits;
    check::that(less == bits, what, i, 4, 0, less, bits);
  }
}

struct Narrowed {
  const char* what;
  uint32_t bits;
  uint16_t half, bfloat16;
};

const Narrowed kNarrowed[] = {
    {"2^16", 0x47800000u, 0x7c00, 0x4780},
    {"-100000", 0xc7c35000u, 0xfc00, 0xc7c3},
    {"the largest float", 0x7f7fffffu, 0x7c00, 0x7f80},
    {"half of the smallest half", 0x33000000u, 0, 0x3300},
    {"a little more", 0x33000001u, 1, 0x3300},
    {"a float subnormal", 0x00400001u, 0, 0x0040},
    {"-0", 0x80000000u, 0x8000, 0x8000},
    {"a NaN of the highest payload", 0x7fffffffu, 0x7e00, 0x7fc0},
    {"a NaN of the lowest payload", 0x7f800001u, 0x7e00, 0x7fc0},
};

void narrowed() {
  for (const Narrowed& n : kNarrowed) {
    const uint16_t h = narrowed_half(as_float(n.bits)).bits, b = narrowed_bfloat16(as_float(n.bits)).bits;
    check::that(h == n.half, n.what, 0, 16, 0, h, n.half);
    check::that(b == n.bfloat16, n.what, 0, 7, 0, b, n.bfloat16);
  }
}

}  // namespace

int main() {
  specials<VectorMath>();
  specials<Device>();
  specials<DoubleMath>();
  vector_accuracy();
  device_accuracy();
  double_accuracy();
  primitives();
  folding();
  narrowed();
  halves<Half>("float16", 10, 15, [](float v) { return narrowed_half(v); });
  halves<Bfloat16>("bfloat16", 7, 127, [](float v) { return narrowed_bfloat16(v); });
  std::printf("%d failures\n", check::failures);
  return check::failures != 0;
}
