// One activation of a model, prepared once: parameters checked and folded.
#ifndef APA_LAYER_H
#define APA_LAYER_H

#include <cstddef>
#include <vector>

#include "attributes.h"
#include "choice.h"
#include "geometry.h"

namespace apa {

class Layer {
 public:
  // Throws Refusal as Attributes::check does.
  Layer(Kind kind, Element element, Attributes attributes, const Choice& choice = choice_of_environment());

  void check_shape(const int64_t* dims, size_t rank) const { attributes_.check_shape(dims, rank); }
  Geometry geometry_of(const int64_t* dims, size_t rank) const;

  // Computes elements [begin, end). x == y is allowed. No allocation; safe from any thread. In float32 a result
  // below 2^-126 becomes 0 with its sign, unless "exact" was asked for by name.
  void run(const void* x, void* y, const Geometry& geometry, size_t begin, size_t end) const;

  // For operators that do more than this one: `n` contiguous float32 elements that lie anywhere, whichever
  // Element the layer has. They are elements [offset, offset + n) of a span of `group` (geometry.h).
  //   scalar parameters          piece(x, y, n, 0, 0, 1)
  //   one channel of NCHW        piece(x, y, n, channel, 0, 1)
  //   pixels of an NCHWc block   piece(x, y, n, channel / block, 0, block), x at the block's first channel
  void piece(const float* x, float* y, size_t n, size_t group, size_t offset, size_t lanes) const;

  // "pw", "acc" or "exact": what runs the parameters of channel 0.
  const char* kernel() const { return element_ == Element::Float64 ? "exact" : rows_[0].kernel(); }

 private:
  void prepare_rows(const Choice& choice);
  void prepare_lanes();
  void tiles(const float* x, float* y, size_t n, const Row* channels, size_t offset, size_t lanes) const;
  template <class Small>
  void run_small(const Small* x, Small* y, const Geometry& geometry, size_t begin, size_t end) const;
  void run_double(const double* x, double* y, const Geometry& geometry, size_t begin, size_t end) const;

  Kind kind_;
  Element element_;
  Attributes attributes_;
  std::vector<Row> rows_;
  bool tabled_ = false;  // some channel has a table
  bool flush_;           // float32 results below 2^-126 become 0
  std::vector<Coefficients<double>> double_rows_;
  std::vector<float> lane_values_;  // six arrays of `lane_period_` a group
  std::vector<int32_t> lane_regimes_;
  size_t lane_period_ = 0;
};

}  // namespace apa

#endif  // APA_LAYER_H
