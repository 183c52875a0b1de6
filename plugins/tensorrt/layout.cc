#include "layout.h"

#include <functional>
#include <numeric>

namespace apa {
namespace {

using Dims = std::vector<int64_t>;

int64_t product(const Dims& dims, size_t from) {
  return std::accumulate(dims.begin() + static_cast<Dims::difference_type>(from), dims.end(), int64_t{1},
                         std::multiplies<int64_t>());
}

int64_t vectors(int64_t channels, int32_t vector) { return (channels + vector - 1) / vector; }

// The dimensions as they lie in memory, and where in them the tensor's dimension `axis` lies.
struct Memory {
  Dims dims;
  size_t axis;
};

Memory memory_linear(const Dims& dims, size_t axis) { return {dims, axis}; }

Memory memory_minor(const Dims& dims, size_t along, int32_t vector, size_t axis) {
  Dims stored = dims;
  stored.erase(stored.begin() + static_cast<Dims::difference_type>(along));
  stored.push_back(vectors(dims[along], vector) * vector);
  const size_t last = dims.size() - 1;
  return {stored, axis == along ? last : axis > along ? axis - 1 : axis};
}

Memory memory_major(const Dims& dims, size_t along, int32_t vector, size_t axis) {
  Dims stored = dims;
  stored[along] = vectors(dims[along], vector);
  stored.push_back(vector);
  return {stored, axis};
}

Memory memory_of(const Dims& dims, const Format& format, size_t along, size_t axis) {
  switch (format.order) {
    case Format::Order::VectorMinor: return memory_minor(dims, along, format.vector, axis);
    case Format::Order::VectorMajor: return memory_major(dims, along, format.vector, axis);
    default: return memory_linear(dims, axis);
  }
}

Padding padding_of(const Dims& dims, const Format& format, size_t along) {
  const int32_t groups = static_cast<int32_t>(vectors(dims[along], format.vector));
  const int32_t lanes = groups * format.vector;
  if (format.order == Format::Order::VectorMinor) return {1, 1, lanes, static_cast<int32_t>(dims[along])};
  const int32_t keep = static_cast<int32_t>(dims[along]) - (groups - 1) * format.vector;
  return {product(dims, along + 1), groups, format.vector, keep};
}

}  // namespace

Layout layout_of(const Dims& dims, const Format& format, int32_t axis) {
  const bool linear = format.order == Format::Order::Linear;
  const size_t along = linear ? 0 : dims.size() - static_cast<size_t>(format.from_end);
  const size_t channels = static_cast<size_t>(axis);
  const Memory memory = memory_of(dims, format, along, channels);

  const bool in_vectors = format.order == Format::Order::VectorMajor && along == channels;
  Layout layout{};
  layout.count = product(memory.dims, 0);
  layout.walk = {product(memory.dims, memory.axis + 1), static_cast<int32_t>(memory.dims[memory.axis]),
                 in_vectors ? format.vector : 1};
  layout.padding = linear ? Padding{1, 1, 1, 1} : padding_of(dims, format, along);
  return layout;
}

}  // namespace apa
