// How far the kernels are from the formula: every half and bfloat16, a sweep of float32, lambda 0 to 100,
// with and without the documented errors of the device's ex2 and lg2; and the same as int8 codes.
#include <limits>
#include <vector>

#include "cuda_errors.h"
#include "kernels.h"
#include "trt_check.h"
#include "trt_reference.h"

namespace {

using apa::Kind;
using cuda_errors::Mode;

const float kLambdas[] = {0.f, 1e-30f, 1e-8f, 1e-4f, 1e-2f, 0.1f, 0.2499f, 0.25f, 0.5f, 1.f, 2.f, 10.f, 100.f};
const float kKappas[] = {1.2f, 0.3f, -0.7f, 3.f, 0.f};
const float kScales[] = {0.05f, 0.003f, 1.f};
const Mode kModes[] = {Mode::None, Mode::High, Mode::Low, Mode::Random};

template <class T>
std::vector<T> every_half() {
  static_assert(sizeof(T) == 2, "a half type");
  std::vector<T> all(65536);
  for (uint32_t bits = 0; bits < 65536; bits++) {
    const uint16_t pattern = static_cast<uint16_t>(bits);
    std::memcpy(static_cast<void*>(&all[bits]), &pattern, 2);
  }
  return all;
}

// -90 .. 90 evenly, every power of two, and the special values.
std::vector<float> floats() {
  std::vector<float> z;
  for (int i = 0; i <= 24000; i++) z.push_back(-90.f + 180.f * static_cast<float>(i) / 24000.f);
  for (int e = -149; e < 128; e++) {
    z.push_back(std::ldexp(1.f, e));
    z.push_back(-std::ldexp(1.f, e));
  }
  const float huge = std::numeric_limits<float>::max(), infinity = std::numeric_limits<float>::infinity();
  for (float special : {0.f, -0.f, huge, -huge, infinity, -infinity, std::nanf("")}) z.push_back(special);
  return z;
}

template <class To, class T>
std::vector<To> ran(Kind kind, float lambda, float kappa, const std::vector<T>& x, float scale = 0) {
  apa::Job job{};
  job.kind = kind;
  job.element = reference::Numbers<T>::kElement;
  job.layout = {static_cast<int64_t>(x.size()), {1, 1, 1}, {1, 1, 1, 1}};
  job.processors = 1;
  job.scalar = apa::coefficients<float>(lambda, kappa);
  std::vector<To> y(x.size());
  const cudaError_t error = scale > 0 ? apa::run(job, scale, x.data(), y.data(), nullptr)
                                      : apa::run(job, x.data(), y.data(), nullptr);
  check::expect(error == cudaSuccess, "the kernel did not start");
  return y;
}

// Of a sweep, for the documentation: the largest error in units of its tolerance, and how many codes there are and are
// not those of the exact results.
double worst = 0;
int64_t codes = 0, others = 0;

template <class T>
void compare(const char* type, Kind kind, float lambda, float kappa, const std::vector<T>& x,
             const std::vector<double>& exact) {
  const std::vector<T> y = ran<T>(kind, lambda, kappa, x);
  for (size_t i = 0; i < x.size(); i++) {
    const double got = reference::value(y[i]), z = reference::value(x[i]);
    if (reference::close<T>(got, exact[i], z)) {
      worst = std::fmax(worst, reference::share_of_tolerance<T>(got, exact[i], z));
      continue;
    }
    check::expect(false, "%s %s lambda %g kappa %g mode %d: f(%.9g) = %.9g, exactly %.9g", type,
                  kind == Kind::Gate ? "APA" : "AGLU", lambda, kappa, static_cast<int>(cuda_errors::mode),
                  z, got, exact[i]);
    return;
  }
  check::expect(true, "all close");
}

template <class T>
void compare_codes(const char* type, Kind kind, float lambda, float kappa, float scale, const std::vector<T>& x,
                   const std::vector<double>& exact) {
  const std::vector<int8_t> y = ran<int8_t>(kind, lambda, kappa, x, scale);
  for (size_t i = 0; i < x.size(); i++) {
    codes++;
    others += y[i] != reference::code_of(exact[i], scale);
    if (reference::close_code(y[i], exact[i], scale)) continue;
    check::expect(false, "%s %s lambda %g kappa %g scale %g mode %d: f(%.9g) is %d, exactly %.9g", type,
                  kind == Kind::Gate ? "APA" : "AGLU", lambda, kappa, scale, static_cast<int>(cuda_errors::mode),
                  reference::value(x[i]), y[i], exact[i]);
    return;
  }
  check::expect(true, "all close");
}

template <class T>
void sweep(const char* type, const std::vector<T>& x) {
  std::vector<double> exact(x.size());
  size_t at = 0;
  for (Kind kind : {Kind::Gate, Kind::Unit}) {
    for (float lambda : kLambdas) {
      for (float kappa : kKappas) {
        for (size_t i = 0; i < x.size(); i++) {
          exact[i] = reference::activation(kind, reference::value(x[i]), lambda, kappa);
        }
        for (Mode mode : kModes) {
          if (kappa != kKappas[0] && mode != Mode::Random) continue;  // each mode once for every lambda
          cuda_errors::mode = mode;
          compare(type, kind, lambda, kappa, x, exact);
          compare_codes(type, kind, lambda, kappa, kScales[at++ % 3], x, exact);
        }
      }
    }
  }
  cuda_errors::mode = Mode::None;
  std::printf("%s: worst error %.3f of the tolerance; %lld of %lld codes are not the exact one\n", type, worst,
              static_cast<long long>(others), static_cast<long long>(codes));
  worst = 0;
  codes = others = 0;
}

void float32() { sweep("float32", floats()); }
void float16() { sweep("float16", every_half<__half>()); }
void bfloat16() { sweep("bfloat16", every_half<__nv_bfloat16>()); }

// -0 keeps its sign through the unit, as in PyTorch.
void signed_zero() {
  for (float lambda : kLambdas) {
    const std::vector<float> y = ran<float, float>(Kind::Unit, lambda, 1.f, {-0.f, 0.f});
    check::expect(std::signbit(y[0]) && !std::signbit(y[1]), "lambda %g: sign of zero lost", lambda);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {
      {"float32", float32}, {"float16", float16}, {"bfloat16", bfloat16}, {"signed_zero", signed_zero}};
  return check::main_of(suites, argc, argv);
}
