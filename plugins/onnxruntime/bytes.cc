#include "bytes.h"

#include <algorithm>

namespace apa {
namespace {

uint8_t clamped(int32_t code) { return static_cast<uint8_t>(std::min(255, std::max(0, code))); }

void lookup(const uint8_t* table, const uint8_t* x, uint8_t* y, size_t n) {
  for (size_t i = 0; i < n; i++) y[i] = table[x[i]];
}

void sum(const uint8_t* table, const Sum& s, const uint8_t* a, const uint8_t* b, uint8_t* y, size_t n) {
  for (size_t i = 0; i < n; i++)
    y[i] = table[clamped(((a[i] ^ s.flip) * s.factor_a + (b[i] ^ s.flip) * s.factor_b + s.constant) >> s.shift)];
}

void channels(const uint8_t* table, const ChannelSums& s, const uint8_t* a, const uint8_t* b, uint8_t* y,
              size_t pixels) {
  for (size_t p = 0; p < pixels; p++)
    for (size_t c = 0; c < s.channels; c++, a++, b++, y++)
      *y = table[clamped(((*a ^ s.flip) * s.factors[2 * c] + (*b ^ s.flip) * s.factors[2 * c + 1] + s.constants[c]) >>
                         s.shift)];
}

bool has_vbmi() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_supports("avx512vbmi");
#else
  return false;
#endif
}

}  // namespace

const ByteKernels& scalar_byte_kernels() {
  static const ByteKernels kernels{"scalar", 1, lookup, sum, channels};
  return kernels;
}

const ByteKernels& byte_kernels(Instructions allowed) {
#if defined(__x86_64__)
  if (allowed == Instructions::Avx512 && has_vbmi()) return vbmi_byte_kernels();
  if (allowed != Instructions::None) return avx2_byte_kernels();
#elif defined(__aarch64__)
  if (allowed != Instructions::None) return neon_byte_kernels();
#endif
  (void)allowed;
  (void)has_vbmi;
  return scalar_byte_kernels();
}

}  // namespace apa
