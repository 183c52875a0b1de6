// One activation of a model, prepared once: parameters checked and folded.
#ifndef APA_LAYER_H
#define APA_LAYER_H

#include <cstddef>
#include <stdexcept>
#include <string>
#include <vector>

#include "choice.h"
#include "geometry.h"

namespace apa {

// What is wrong with a node, for the user to read: saw; wanted.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Parameters {
  std::vector<double> lambda, kappa;  // length 1 or C each
  int64_t axis = 1;
  int64_t block = 1;  // > 1: the tensor lies in ONNX Runtime's NCHWc, in blocks of so many channels
  size_t channels() const { return std::max(lambda.size(), kappa.size()); }
};

class Layer {
 public:
  // Throws Refusal for NaN, infinite or negative lambda, NaN or infinite kappa, lengths that disagree.
  Layer(Kind kind, Element element, Parameters parameters, const Choice& choice = choice_of_environment());

  // Throws Refusal where the axis does not lie in the rank or its length is not that of the parameters.
  // A dimension <= 0 in a symbolic shape is unknown and passes.
  void check_shape(const int64_t* dims, size_t rank) const;
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
  size_t axis_of(size_t rank) const;
  void tiles(const float* x, float* y, size_t n, const Row* channels, size_t offset, size_t lanes) const;
  template <class Small>
  void run_small(const Small* x, Small* y, const Geometry& geometry, size_t begin, size_t end) const;
  void run_double(const double* x, double* y, const Geometry& geometry, size_t begin, size_t end) const;

  Kind kind_;
  Element element_;
  Parameters parameters_;
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
