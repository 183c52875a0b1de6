#include "attributes.h"

#include <cmath>
#include <string>

namespace apa {
namespace {

void check_values(const char* name, const std::vector<double>& values, bool non_negative) {
  if (values.empty()) throw Refusal(std::string(name) + " holds no float; wanted 1, or one a channel");
  for (size_t i = 0; i < values.size(); i++) {
    if (std::isfinite(values[i]) && !(non_negative && values[i] < 0)) continue;
    throw Refusal(std::string(name) + "[" + std::to_string(i) + "] is " + std::to_string(values[i]) +
                  "; wanted a finite number" + (non_negative ? " >= 0" : ""));
  }
}

}  // namespace

void Attributes::check() const {
  check_values("lambda", lambda, true);
  check_values("kappa", kappa, false);
  const size_t a = lambda.size(), b = kappa.size();
  if (a != b && a != 1 && b != 1)
    throw Refusal("lambda has " + std::to_string(a) + " values and kappa " + std::to_string(b) +
                  "; wanted the same length, or length 1");
  if (block < 1) throw Refusal("block is " + std::to_string(block) + "; wanted 1 or more");
  if (channels() > 1 && channels() % static_cast<size_t>(block) != 0)
    throw Refusal(std::to_string(channels()) + " channels; wanted a multiple of the block, " + std::to_string(block));
}

size_t Attributes::axis_of(size_t rank) const {
  if (channels() == 1) return 0;
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(rank) : axis);
}

void Attributes::check_shape(const int64_t* dims, size_t rank) const {
  if (channels() == 1) return;
  const int64_t n = static_cast<int64_t>(rank);
  if (axis < -n || axis >= n)
    throw Refusal("axis is " + std::to_string(axis) + "; wanted one of the input's " + std::to_string(n) + " axes");
  const int64_t length = dims[axis_of(rank)];
  if (length > 0 && static_cast<size_t>(length) != channels())
    throw Refusal(std::to_string(channels()) + " parameters for " + std::to_string(length) + " channels on axis " +
                  std::to_string(axis) + "; wanted one a channel, or one for all");
}

}  // namespace apa
