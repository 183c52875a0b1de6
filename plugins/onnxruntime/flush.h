// While one lives, this thread's float32 results below 2^-126 are 0 with their sign: those numbers take a hundred
// times as long, here and in the convolution that reads them.
#ifndef APA_FLUSH_H
#define APA_FLUSH_H

#include <cstdint>

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

namespace apa {

class FlushSubnormals {
 public:
  explicit FlushSubnormals(bool wanted) : before_(read()) {
    if (wanted) write(before_ | kFlush);
  }
  ~FlushSubnormals() { write(before_); }
  FlushSubnormals(const FlushSubnormals&) = delete;
  FlushSubnormals& operator=(const FlushSubnormals&) = delete;

 private:
#if defined(__x86_64__)
  using Control = unsigned;
  static constexpr Control kFlush = 0x8000;  // results alone: a subnormal input counts
  static Control read() { return _mm_getcsr(); }
  static void write(Control control) { _mm_setcsr(control); }
#elif defined(__aarch64__)
  using Control = uint64_t;
  static constexpr Control kFlush = uint64_t{1} << 24;  // inputs as well, and what would round up to 2^-126
  static Control read() {
    Control control;
    asm volatile("mrs %0, fpcr" : "=r"(control));
    return control;
  }
  static void write(Control control) { asm volatile("msr fpcr, %0" : : "r"(control) : "memory"); }
#else
  using Control = unsigned;
  static constexpr Control kFlush = 0;
  static Control read() { return 0; }
  static void write(Control) {}
#endif

  const Control before_;
};

}  // namespace apa

#endif  // APA_FLUSH_H
