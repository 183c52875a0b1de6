// Which parameters belong to which element of a contiguous tensor.
#ifndef APA_GEOMETRY_H
#define APA_GEOMETRY_H

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace apa {

// The tensor is a sequence of spans; span number s belongs to group s % groups. Within a span the
// parameters are constant (lanes == 1) or repeat every `lanes` elements.
//   scalar parameters                   groups 1,   span = all,     lanes 1
//   [outer, C, inner], axis in between  groups C,   span = inner,   lanes 1
//   [outer, C], axis last               groups 1,   span = all,     lanes C
//   NCHWc, blocks of B channels         groups C/B, span = H*W*B,   lanes B
struct Geometry {
  size_t groups = 1, span = 1, lanes = 1, total = 0;

  // Calls visit(group, offset of the piece in its span, first element, count) over [begin, end).
  template <class Visit>
  void walk(size_t begin, size_t end, Visit visit) const {
    while (begin < end) {
      const size_t offset = begin % span;
      const size_t count = std::min(end - begin, span - offset);
      visit(begin / span % groups, offset, begin, count);
      begin += count;
    }
  }
};

inline size_t product(const int64_t* dims, size_t from, size_t to) {
  size_t n = 1;
  for (size_t i = from; i < to; i++) n *= static_cast<size_t>(dims[i]);
  return n;
}

// `channels` == 1: scalar parameters. `block` > 1: dims are those of NCHW, the memory is NCHWc.
// `axis` lies in [0, rank) and dims[axis] == channels, which the caller has checked.
inline Geometry geometry(const int64_t* dims, size_t rank, size_t axis, size_t channels, size_t block) {
  const size_t total = product(dims, 0, rank);
  if (channels == 1 || total == 0) return {1, std::max<size_t>(total, 1), 1, total};
  const size_t inner = product(dims, axis + 1, rank);
  if (block > 1) return {channels / block, inner * block, block, total};
  if (inner == 1) return {1, total, channels, total};
  return {channels, inner, 1, total};
}

}  // namespace apa

#endif  // APA_GEOMETRY_H
