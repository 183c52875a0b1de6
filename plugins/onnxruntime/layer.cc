#include "layer.h"

#include <cmath>
#include <map>

#include "flush.h"

namespace apa {
namespace {

// Half types pass through a float32 buffer of this many elements on the stack: it stays in the first cache.
constexpr size_t kBuffer = 512;

// Short periods are repeated up to this many lanes, so that vectors are full.
constexpr size_t kFullLanes = 64;

// Tiles of channels and pixels: 4 KiB on the stack.
constexpr size_t kTileChannels = 16, kTilePixels = 64;

// Different pairs of lambda and kappa that get a table of their own: at most 10 ms of fitting, 512 KiB.
constexpr size_t kTables = 128;

void check_values(const char* name, const std::vector<double>& values, bool non_negative) {
  if (values.empty()) throw Refusal(std::string(name) + " holds no float; wanted 1, or one a channel");
  for (size_t i = 0; i < values.size(); i++) {
    if (std::isfinite(values[i]) && !(non_negative && values[i] < 0)) continue;
    throw Refusal(std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) +
                  "; wanted a finite number" + (non_negative ? " >= 0" : ""));
  }
}

void check(const Parameters& p) {
  check_values("lambda", p.lambda, true);
  check_values("kappa", p.kappa, false);
  const size_t a = p.lambda.size(), b = p.kappa.size();
  if (a != b && a != 1 && b != 1)
    throw Refusal("lambda has " + std::to_string(a) + " values and kappa " + std::to_string(b) +
                  "; wanted the same length, or length 1");
  if (p.block < 1) throw Refusal("block is " + std::to_string(p.block) + "; wanted 1 or more");
  if (p.channels() > 1 && p.channels() % static_cast<size_t>(p.block) != 0)
    throw Refusal(std::to_string(p.channels()) + " channels; wanted a multiple of the block, " +
                  std::to_string(p.block));
}

double pick(const std::vector<double>& values, size_t i) { return values[values.size() == 1 ? 0 : i]; }

}  // namespace

Layer::Layer(Kind kind, Element element, Parameters parameters, const Choice& choice)
    : kind_(kind), element_(element), parameters_(std::move(parameters)), flush_(flushes(choice)) {
  check(parameters_);
  prepare_rows(choice);
  if (parameters_.channels() > 1 && element_ != Element::Float64) prepare_lanes();
}

// Channels with the same parameters share a table. Where too many differ, tables would take longer to fit and
// to load into a cache than they save.
void Layer::prepare_rows(const Choice& choice) {
  std::map<std::pair<double, double>, Row> known;
  for (size_t i = 0; i < parameters_.channels(); i++) {
    const std::pair<double, double> pair(pick(parameters_.lambda, i), pick(parameters_.kappa, i));
    const Choice allowed = known.size() < kTables ? choice : Choice{};
    const auto row = known.try_emplace(pair, pair.first, pair.second, kind_, element_, allowed).first;
    rows_.push_back(row->second);
    tabled_ |= row->second.has_table();
    double_rows_.push_back(coefficients<double>(pair.first, pair.second));
  }
}

// Group g of an NCHWc tensor holds channels [g*block, (g+1)*block); without blocks one group holds all.
void Layer::prepare_lanes() {
  const size_t channels = parameters_.channels();
  const size_t lanes = parameters_.block > 1 ? static_cast<size_t>(parameters_.block) : channels;
  lane_period_ = lanes * ((kFullLanes + lanes - 1) / lanes);
  const size_t groups = channels / lanes;
  lane_values_.resize(groups * 6 * lane_period_);
  lane_regimes_.resize(groups * lane_period_);
  for (size_t g = 0; g < groups; g++) {
    float* out = &lane_values_[g * 6 * lane_period_];
    for (size_t i = 0; i < lane_period_; i++) {
      const Coefficients<float>& c = rows_[g * lanes + i % lanes].exact();
      const float fields[6] = {c.slope, c.slope_low, c.offset, c.lambda, c.rate, c.rate_low};
      for (size_t f = 0; f < 6; f++) out[f * lane_period_ + i] = fields[f];
      lane_regimes_[g * lane_period_ + i] = c.regime == Regime::Large;
    }
  }
}

size_t Layer::axis_of(size_t rank) const {
  const int64_t axis = parameters_.axis, n = static_cast<int64_t>(rank);
  return static_cast<size_t>(axis < 0 ? axis + n : axis);
}

void Layer::check_shape(const int64_t* dims, size_t rank) const {
  if (parameters_.channels() == 1) return;
  const int64_t axis = parameters_.axis, n = static_cast<int64_t>(rank);
  if (axis < -n || axis >= n)
    throw Refusal("axis is " + std::to_string(axis) + "; wanted one of the input's " + std::to_string(n) +
                  " axes");
  const int64_t length = dims[axis_of(rank)];
  if (length > 0 && static_cast<size_t>(length) != parameters_.channels())
    throw Refusal(std::to_string(parameters_.channels()) + " parameters for " + std::to_string(length) +
                  " channels on axis " + std::to_string(axis) + "; wanted one a channel, or one for all");
}

Geometry Layer::geometry_of(const int64_t* dims, size_t rank) const {
  const size_t channels = parameters_.channels();
  return geometry(dims, rank, channels == 1 ? 0 : axis_of(rank), channels,
                  static_cast<size_t>(parameters_.block));
}

// Parameters that change from element to element: a few channels of many pixels are turned into rows, run with a
// table each, and turned back. Pixels cut off at either end go through the same kernels, one number at a time, so
// that a result does not depend on where the cut is.
void Layer::tiles(const float* x, float* y, size_t n, const Row* channels, size_t offset, size_t lanes) const {
  alignas(64) float tile[kTileChannels][kTilePixels];
  const size_t whole_from = std::min(n, (lanes - offset % lanes) % lanes);
  const size_t whole_to = whole_from + (n - whole_from) / lanes * lanes;
  for (size_t i = 0; i < whole_from; i++) channels[(offset + i) % lanes].run(x + i, y + i, 1);
  for (size_t i = whole_to; i < n; i++) channels[(offset + i) % lanes].run(x + i, y + i, 1);
  for (size_t at = whole_from; at < whole_to; at += kTilePixels * lanes)
    for (size_t first = 0; first < lanes; first += kTileChannels) {
      const size_t pixels = std::min(kTilePixels, (whole_to - at) / lanes);
      const size_t abreast = std::min(kTileChannels, lanes - first);
      for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < abreast; c++) tile[c][p] = x[at + p * lanes + first + c];
      for (size_t c = 0; c < abreast; c++) channels[first + c].run(tile[c], tile[c], pixels);
      for (size_t p = 0; p < pixels; p++)
        for (size_t c = 0; c < abreast; c++) y[at + p * lanes + first + c] = tile[c][p];
    }
}

void Layer::piece(const float* x, float* y, size_t n, size_t group, size_t offset, size_t lanes) const {
  if (lanes == 1) return rows_[group].run(x, y, n);
  if (tabled_ && lanes <= kTileChannels * kTilePixels) return tiles(x, y, n, &rows_[group * lanes], offset, lanes);
  const float* values = &lane_values_[group * 6 * lane_period_];
  for (size_t done = 0; done < n;) {
    const size_t phase = (offset + done) % lane_period_;
    const size_t count = std::min(n - done, lane_period_ - phase);
    const float* at = values + phase;
    const size_t p = lane_period_;
    const Lanes l{at, at + p, at + 2 * p, at + 3 * p, at + 4 * p, at + 5 * p,
                  &lane_regimes_[group * p + phase]};
    exact_lanes(kind_, x + done, y + done, count, l);
    done += count;
  }
}

template <class Small>
void Layer::run_small(const Small* x, Small* y, const Geometry& geometry, size_t begin, size_t end) const {
  alignas(64) float buffer[kBuffer];
  geometry.walk(begin, end, [&](size_t group, size_t offset, size_t first, size_t count) {
    if (geometry.lanes == 1 && rows_[group].run_element(x + first, y + first, count)) return;
    for (size_t done = 0; done < count; done += kBuffer) {
      const size_t n = std::min(kBuffer, count - done);
      widen(x + first + done, buffer, n);
      piece(buffer, buffer, n, group, offset + done, geometry.lanes);
      narrow(buffer, y + first + done, n);
    }
  });
}

void Layer::run_double(const double* x, double* y, const Geometry& geometry, size_t begin, size_t end) const {
  geometry.walk(begin, end, [&](size_t group, size_t offset, size_t first, size_t count) {
    if (geometry.lanes == 1) return double_row(kind_, x + first, y + first, count, double_rows_[group]);
    for (size_t i = 0; i < count; i++)
      double_row(kind_, x + first + i, y + first + i, 1,
                 double_rows_[group * geometry.lanes + (offset + i) % geometry.lanes]);
  });
}

void Layer::run(const void* x, void* y, const Geometry& geometry, size_t begin, size_t end) const {
  switch (element_) {
    case Element::Float16:
      return run_small(static_cast<const Half*>(x), static_cast<Half*>(y), geometry, begin, end);
    case Element::Bfloat16:
      return run_small(static_cast<const Bfloat16*>(x), static_cast<Bfloat16*>(y), geometry, begin, end);
    case Element::Float64:
      return run_double(static_cast<const double*>(x), static_cast<double*>(y), geometry, begin, end);
    case Element::Float32:
      break;
  }
  const FlushSubnormals flush(flush_);
  const float* from = static_cast<const float*>(x);
  float* to = static_cast<float*>(y);
  geometry.walk(begin, end, [&](size_t group, size_t offset, size_t first, size_t count) {
    piece(from + first, to + first, count, group, offset, geometry.lanes);
  });
}

}  // namespace apa
