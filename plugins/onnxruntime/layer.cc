#include "layer.h"

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

// Different pairs of lambda and kappa that get a table of their own: at most 60 ms of fitting, 2 MiB.
constexpr size_t kTables = 128;

}  // namespace

Layer::Layer(Kind kind, Element element, Attributes attributes, const Choice& choice)
    : kind_(kind), element_(element), attributes_(std::move(attributes)), flush_(flushes(choice)) {
  attributes_.check();
  prepare_rows(choice);
  if (attributes_.channels() > 1 && element_ != Element::Float64) prepare_lanes();
}

// Channels with the same parameters share a table. Where too many differ, tables would take longer to fit and
// to load into a cache than they save.
void Layer::prepare_rows(const Choice& choice) {
  std::map<std::pair<double, double>, Row> known;
  for (size_t i = 0; i < attributes_.channels(); i++) {
    const std::pair<double, double> pair(attributes_.lambda_of(i), attributes_.kappa_of(i));
    const Choice allowed = known.size() < kTables ? choice : Choice{};
    const auto row = known.try_emplace(pair, pair.first, pair.second, kind_, element_, allowed).first;
    rows_.push_back(row->second);
    tabled_ |= row->second.has_table();
    double_rows_.push_back(coefficients<double>(pair.first, pair.second));
  }
}

// Group g of an NCHWc tensor holds channels [g*block, (g+1)*block); without blocks one group holds all.
void Layer::prepare_lanes() {
  const size_t channels = attributes_.channels();
  const size_t lanes = attributes_.block > 1 ? static_cast<size_t>(attributes_.block) : channels;
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

Geometry Layer::geometry_of(const int64_t* dims, size_t rank) const {
  return geometry(dims, rank, attributes_.axis_of(rank), attributes_.channels(), static_cast<size_t>(attributes_.block));
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
