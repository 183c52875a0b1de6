// How the elements of a tensor lie in memory, for every format TensorRT has. Pure integers.
#ifndef APA_TENSORRT_LAYOUT_H
#define APA_TENSORRT_LAYOUT_H

#include <cstddef>
#include <cstdint>
#include <vector>

namespace apa {

// A memory format: one dimension, counted from the end, is stored in vectors of `vector` elements.
//   Linear       [..., C, H, W]
//   VectorMinor  [..., H, W, C padded to a multiple of vector]     HWC, HWC8, HWC16, DHWC, DHWC8
//   VectorMajor  [..., C/vector rounded up, H, W, vector]          CHW2, CHW4, CHW16, CHW32, CDHW32
struct Format {
  enum class Order { Linear, VectorMinor, VectorMajor } order;
  int32_t vector;
  int32_t from_end;  // 3: the third to last dimension is the vector's
};

// Which channel an element belongs to. The memory is a sequence of spans; span number s belongs to
// group s % groups; element i of the tensor to channel group * lanes + i % lanes.
// lanes is a power of two and divides span.
struct Walk {
  int64_t span;
  int32_t groups, lanes;
};

// Where the padding lies: memory is a sequence of rows of `lanes` elements, `rows` of them to a span.
// In every last span of `groups`, the elements from `keep` on are padding. keep == lanes: there is none.
struct Padding {
  int64_t rows;
  int32_t groups, lanes, keep;

  bool any() const { return keep < lanes; }
};

struct Layout {
  int64_t count;  // elements in memory, padding included
  Walk walk;
  Padding padding;
};

// The layout of a tensor whose channels lie along `axis` (in [0, rank)).
// Domain: dims >= 0, rank >= format.from_end, and rank >= 1.
Layout layout_of(const std::vector<int64_t>& dims, const Format& format, int32_t axis);

// The same of a contiguous tensor; axis is 0 where rank is. Nothing is allocated.
Layout linear_layout(const int64_t* dims, size_t rank, size_t axis);

}  // namespace apa

#endif  // APA_TENSORRT_LAYOUT_H
