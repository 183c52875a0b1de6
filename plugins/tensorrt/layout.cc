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

Padding padding_of(const Dims& dims, const Format& format, size_t along) {
  const int32_t groups = static_cast<int32_t>(vectors(dims[along], format.vector));
  const int32_t lanes = groups * format.vector;
  if (format.order == Format::Order::VectorMinor) return {1, 1, lanes, static_cast<int32_t>(dims[along])};
  const int32_t keep = static_cast<int32_t>(dims[along]) - (groups - 1) * format.vector;
  return {product(dims, along + 1), groups, format.vector, keep};
}

}  // namespace

Layout linear_layout(const int64_t* dims, size_t rank, size_t axis) {
  Layout layout{1, {1, 1, 1}, {1, 1, 1, 1}};
  for (size_t i = 0; i < rank; i++) layout.count *= dims[i];
  for (size_t i = axis + 1; i < rank; i++) layout.walk.span *= dims[i];
  if (rank) layout.walk.groups = static_cast<int32_t>(dims[axis]);
  return layout;
}

Layout layout_of(const Dims& dims, const Format& format, int32_t axis) {
  const size_t channels = static_cast<size_t>(axis);
  if (format.order == Format::Order::Linear) return linear_layout(dims.data(), dims.size(), channels);
  const size_t along = dims.size() - static_cast<size_t>(format.from_end);
  const bool minor = format.order == Format::Order::VectorMinor;
  const Memory memory = minor ? memory_minor(dims, along, format.vector, channels)
                              : memory_major(dims, along, format.vector, channels);
  Layout layout = linear_layout(memory.dims.data(), memory.dims.size(), memory.axis);
  if (!minor && along == channels) layout.walk.lanes = format.vector;
  layout.padding = padding_of(dims, format, along);
  return layout;
}

}  // namespace apa
