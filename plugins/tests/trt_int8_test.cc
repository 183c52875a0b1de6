// int8: every value, several scales, scalar and per channel, in every memory format; exact, not close.
#include <cmath>

#include "formats.h"
#include "kernels.h"
#include "trt_check.h"
#include "trt_reference.h"
#include "trt_tensor.h"

namespace {

using apa::Kind;
using tensors::Buffer;
using tensors::Tensor;

struct Scales {
  float in, out;
};
const Scales kScales[] = {{0.05f, 0.04f}, {0.01f, 0.3f}, {1.f, 0.01f}, {0.03f, 1.f}};

// Rounded to nearest even and clamped; NaN where the exact value lies on the edge between two (no test there).
double exact_step(Kind kind, int8_t q, double lambda, double kappa, Scales s) {
  const double steps = reference::activation(kind, q * static_cast<double>(s.in), lambda, kappa) / s.out;
  const bool edge = std::fabs(std::fabs(steps - std::floor(steps)) - 0.5) < 1e-9;
  return edge ? std::nan("") : std::fmin(127, std::fmax(-128, std::nearbyint(steps)));
}

// Kappa of both signs: a negative one reaches -128, where the clamp must hold.
apa::Parameters parameters(int64_t channels, int32_t axis) {
  apa::Parameters p;
  p.axis = axis;
  for (int64_t c = 0; c < channels; c++) {
    p.lambda.push_back(0.1f * static_cast<float>(c % 5));
    p.kappa.push_back((c % 2 ? 0.4f : -0.4f) + 0.2f * static_cast<float>(c % 3));
  }
  return p;
}

struct Case {
  Kind kind;
  Tensor tensor;
  int32_t axis;
  bool per_channel;
  int64_t shift;
  Scales scales;
};

apa::Job job_of(const Case& c, const apa::Parameters& p, const std::vector<apa::ByteTable>& tables) {
  apa::Job job{};
  job.kind = c.kind;
  job.element = apa::Element::Int8;
  job.per_channel = p.channels() > 1;
  job.layout = apa::layout_of(c.tensor.dims, *apa::format_of(c.tensor.format.format), c.axis);
  job.processors = 1;
  job.table = tables[0];
  job.device_table = tables.data();
  return job;
}

void check_case(const Case& c) {
  const apa::Parameters p =
      parameters(c.per_channel ? c.tensor.dims[static_cast<size_t>(c.axis)] : 1, c.axis);
  const auto tables = apa::byte_tables(c.kind, p, c.scales.in, c.scales.out);
  const apa::Job job = job_of(c, p, tables);
  Buffer<int8_t> x(c.tensor.count(), c.shift), y(c.tensor.count(), c.shift);
  std::vector<char> is_element(static_cast<size_t>(c.tensor.count()), 0);
  for (int64_t i = 0; i < c.tensor.count(); i++) x[i] = c.kind == Kind::Gate ? 77 : 0, y[i] = 99;
  c.tensor.each([&](int64_t at, const tensors::Dims&) {
    x[at] = static_cast<int8_t>(at * 37 + at / 256);
    is_element[static_cast<size_t>(at)] = 1;
  });
  check::expect(apa::run(job, x.data(), y.data(), nullptr) == cudaSuccess, "int8 not run");
  int64_t wrong = 0;
  c.tensor.each([&](int64_t at, const tensors::Dims& index) {
    const size_t channel = c.per_channel ? static_cast<size_t>(index[static_cast<size_t>(c.axis)]) : 0;
    const double exact = exact_step(c.kind, x[at], p.lambda_of(channel), p.kappa_of(channel), c.scales);
    wrong += !std::isnan(exact) && y[at] != exact;
  });
  for (int64_t i = 0; i < c.tensor.count(); i++) wrong += !is_element[static_cast<size_t>(i)] && y[i] != 0;
  check::expect(wrong == 0, "int8 %s axis %d %s gate %d shift %lld: %lld wrong", c.tensor.name().c_str(), c.axis,
                c.per_channel ? "per channel" : "scalar", c.kind == Kind::Gate, static_cast<long long>(c.shift),
                static_cast<long long>(wrong));
}

// All 256 values at every scale. Tables differ from one launch to the next: a stale one would show.
void values() {
  const Tensor all{tensors::kFormats[0], {256}};
  for (Kind kind : {Kind::Gate, Kind::Unit}) {
    for (const Scales& scales : kScales) check_case({kind, all, 0, false, 0, scales});
  }
}

void formats() {
  for (const auto& format : tensors::kFormats) {
    for (const auto& dims : tensors::kShapes) {
      const Tensor tensor{format, dims};
      if (!tensor.possible()) continue;
      for (Kind kind : {Kind::Gate, Kind::Unit}) {
        check_case({kind, tensor, 0, false, 0, kScales[0]});
        for (size_t axis = 0; axis < dims.size(); axis++) {
          check_case({kind, tensor, static_cast<int32_t>(axis), true, 0, kScales[0]});
        }
      }
    }
  }
}

void tails() {
  for (int64_t length : {1, 15, 16, 17, 255, 257, 40961}) {
    for (int64_t shift : {0, 1, 5}) {
      check_case({Kind::Unit, {tensors::kFormats[0], {length}}, 0, false, shift, kScales[0]});
      check_case({Kind::Unit, {tensors::kFormats[0], {2, 3, length / 6 + 1}}, 1, true, shift, kScales[0]});
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"values", values}, {"formats", formats}, {"tails", tails}};
  return check::main_of(suites, argc, argv);
}
