// Tensors in every memory format, for tests: where an element lies is worked out here by the subscripts of
// TensorRT's documentation, independently of plugins/tensorrt/layout.cc.
#ifndef TRT_TENSOR_H
#define TRT_TENSOR_H

#include <NvInferRuntime.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "trt_check.h"

namespace tensors {

using nvinfer1::TensorFormat;
using Dims = std::vector<int64_t>;

// [prefix][rest][vectors * vector] if minor, [prefix][vectors][rest][vector] if not.
struct FormatCase {
  const char* name;
  TensorFormat format;
  bool minor;
  int64_t vector;
  size_t from_end;
};

const FormatCase kFormats[] = {
    {"linear", TensorFormat::kLINEAR, false, 1, 0}, {"CHW2", TensorFormat::kCHW2, false, 2, 3},
    {"CHW4", TensorFormat::kCHW4, false, 4, 3},     {"CHW16", TensorFormat::kCHW16, false, 16, 3},
    {"CHW32", TensorFormat::kCHW32, false, 32, 3},  {"CDHW32", TensorFormat::kCDHW32, false, 32, 4},
    {"HWC", TensorFormat::kHWC, true, 1, 3},        {"HWC8", TensorFormat::kHWC8, true, 8, 3},
    {"HWC16", TensorFormat::kHWC16, true, 16, 3},   {"DHWC", TensorFormat::kDHWC, true, 1, 4},
    {"DHWC8", TensorFormat::kDHWC8, true, 8, 4},
};

const Dims kShapes[] = {
    {1, 1, 1, 1},  {2, 3, 5, 7},     {1, 8, 4, 4},    {2, 33, 3, 3}, {3, 20, 1, 1},    {2, 40, 7, 7},
    {2, 5, 3},     {2, 6, 3, 4, 5},  {4, 24},         {7},           {1, 1, 1},
    {3, 17, 2, 9}, {1, 2, 2, 3, 40}, {2, 9, 1, 2, 3},
};

struct Tensor {
  FormatCase format;
  Dims dims;

  size_t along() const { return format.from_end ? dims.size() - format.from_end : dims.size(); }
  bool possible() const { return dims.size() >= format.from_end; }
  int64_t count() const {
    int64_t n = 1;
    for (size_t i = 0; i < dims.size(); i++) n *= i == along() ? padded() : dims[i];
    return n;
  }
  int64_t padded() const { return (dims[along()] + format.vector - 1) / format.vector * format.vector; }

  // Where in memory the element at `index` lies.
  int64_t offset(const Dims& index) const {
    int64_t prefix = 0, rest = 0, rest_count = 1;
    for (size_t i = 0; i < dims.size(); i++) {
      if (i < along()) prefix = prefix * dims[i] + index[i];
      if (i > along()) rest = rest * dims[i] + index[i], rest_count *= dims[i];
    }
    if (along() == dims.size()) return prefix;
    const int64_t c = index[along()], v = format.vector;
    if (format.minor) return (prefix * rest_count + rest) * padded() + c;
    return ((prefix * (padded() / v) + c / v) * rest_count + rest) * v + c % v;
  }

  // Calls visit(offset, index) for every element, in row-major order of the indices.
  template <class Visit>
  void each(Visit visit) const {
    if (std::count(dims.begin(), dims.end(), 0)) return;
    Dims index(dims.size(), 0);
    for (bool more = true; more;) {
      visit(offset(index), index);
      more = false;
      for (size_t i = dims.size(); i-- > 0 && !more;) {
        more = ++index[i] < dims[i];
        if (!more) index[i] = 0;
      }
    }
  }

  std::string name() const {
    std::string text = format.name;
    for (int64_t d : dims) text += " " + std::to_string(d);
    return text;
  }
};

// Memory of exactly so many elements, aligned to 256 bytes or `shift` elements past that. AddressSanitizer sees
// whatever is read or written beside it; without, a guard behind it sees what is written.
template <class T>
class Buffer {
 public:
  explicit Buffer(int64_t count, int64_t shift = 0)
      : bytes_(static_cast<size_t>(count + shift) * sizeof(T)), memory_(aligned(bytes_ + kGuard)), shift_(shift) {
    std::memset(memory_ + bytes_, kGuardByte, kGuard);
  }
  ~Buffer() {
    const bool intact = std::all_of(memory_ + bytes_, memory_ + bytes_ + kGuard, [](auto b) { return b == kGuardByte; });
    check::expect(intact, "written beyond the end of %zu bytes", bytes_);
    std::free(memory_);
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  T* data() { return reinterpret_cast<T*>(memory_) + shift_; }
  T& operator[](int64_t i) { return data()[i]; }

 private:
#if defined(__SANITIZE_ADDRESS__)
  static constexpr size_t kGuard = 0;
#else
  static constexpr size_t kGuard = 64;
#endif
  static constexpr unsigned char kGuardByte = 0xA5;

  // Not aligned_alloc: it may want a size that is a multiple of the alignment.
  static unsigned char* aligned(size_t bytes) {
    void* memory = nullptr;
    return posix_memalign(&memory, 256, bytes) == 0 ? static_cast<unsigned char*>(memory) : nullptr;
  }

  size_t bytes_;
  unsigned char* memory_;
  int64_t shift_;
};

}  // namespace tensors

#endif  // TRT_TENSOR_H
