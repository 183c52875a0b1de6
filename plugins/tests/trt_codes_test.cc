// The codes of float32 results by themselves: exactly those of QuantizeLinear, for every scale and at every edge.
#include "cuda_cpu.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/pack.cuh"
#include "trt_check.h"
#include "trt_reference.h"

namespace {

// By ONNX's text: the quotient in float32, to the nearest integer, ties to even, saturated.
double wanted(float y, float scale) { return reference::code_of(static_cast<double>(y / scale), 1); }

void check_one(const apa::Narrowed<int8_t>& to, float y) {
  const double code = wanted(y, to.scale);
  check::expect(to.from(y) == code, "%.9g in steps of %.9g is %d; wanted %g", static_cast<double>(y),
                static_cast<double>(to.scale), to.from(y), code);
}

// The ends of what a field may hold, powers of two, and any.
std::vector<float> scales() {
  std::vector<float> all = {1e-30f, 1e30f, 0.05f, 1.f / 127, 0.3f, 1.f, 2.f, 0x1p-60f, std::nextafter(1.f, 0.f),
                            std::nextafter(2.f, 0.f)};
  std::mt19937 random(3);
  std::uniform_real_distribution<float> exponents(-99, 99), mantissas(1, 2);
  for (int i = 0; i < 500; i++) all.push_back(std::ldexp(mantissas(random), static_cast<int>(exponents(random))));
  return all;
}

// Around every edge between two codes, and every code, three floats to either side.
void edges() {
  for (float scale : scales()) {
    const auto to = apa::Narrowed<int8_t>::of(scale);
    for (int half = -260; half <= 260; half++) {
      float y = static_cast<float>(half * 0.5 * static_cast<double>(scale));
      for (int i = 0; i < 3; i++) y = std::nextafter(y, -std::numeric_limits<float>::infinity());
      for (int i = 0; i < 7; i++) {
        check_one(to, y);
        y = std::nextafter(y, std::numeric_limits<float>::infinity());
      }
    }
  }
}

void any_number() {
  std::mt19937 random(5);
  for (float scale : scales()) {
    const auto to = apa::Narrowed<int8_t>::of(scale);
    for (int i = 0; i < 4000; i++) {
      const uint32_t bits = static_cast<uint32_t>(random());
      float y;
      std::memcpy(&y, &bits, sizeof y);
      if (!std::isnan(y)) check_one(to, y);  // no activation gives a signalling one
      check_one(to, static_cast<float>(static_cast<int32_t>(bits)) * 0x1p-24f * scale);  // within the codes
    }
  }
}

void special() {
  const float infinity = std::numeric_limits<float>::infinity(), most = std::numeric_limits<float>::max();
  for (float scale : scales()) {
    const auto to = apa::Narrowed<int8_t>::of(scale);
    check::expect(to.from(infinity) == 127 && to.from(-infinity) == -128, "infinity");
    check::expect(to.from(most) == 127 && to.from(-most) == -128, "the largest");
    check::expect(to.from(std::nanf("")) == -128, "NaN");
    for (float y : {0.f, -0.f, 0x1p-149f, -0x1p-149f}) check_one(to, y);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"edges", edges}, {"any_number", any_number}, {"special", special}};
  return check::main_of(suites, argc, argv);
}
