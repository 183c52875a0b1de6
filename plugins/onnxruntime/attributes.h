// What a node says of its activation, and whether it can be right. For every provider.
#ifndef APA_ATTRIBUTES_H
#define APA_ATTRIBUTES_H

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace apa {

// What is wrong with a node, for the user to read: saw; wanted.
struct Refusal : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Attributes {
  std::vector<double> lambda, kappa;  // length 1 or C each
  int64_t axis = 1;
  int64_t block = 1;  // > 1: the tensor lies in ONNX Runtime's NCHWc, in blocks of so many channels
  size_t channels() const { return std::max(lambda.size(), kappa.size()); }
  double lambda_of(size_t channel) const { return lambda[lambda.size() == 1 ? 0 : channel]; }
  double kappa_of(size_t channel) const { return kappa[kappa.size() == 1 ? 0 : channel]; }

  // Throws Refusal for NaN, infinite or negative lambda, NaN or infinite kappa, lengths that disagree.
  void check() const;
  // Throws Refusal where the axis does not lie in the rank or its length is not that of the parameters.
  // A dimension <= 0 in a symbolic shape is unknown and passes.
  void check_shape(const int64_t* dims, size_t rank) const;
  // The axis of the channels in [0, rank); 0 where all elements have the same parameters.
  size_t axis_of(size_t rank) const;
};

}  // namespace apa

#endif  // APA_ATTRIBUTES_H
