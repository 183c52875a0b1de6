// The byte kernels for AVX-512 VBMI: 64 codes at a time, at the rate of memcpy.
#if defined(__x86_64__)

#ifndef APA_NO_TARGET
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512vbmi,avx2,bmi,bmi2")
#endif

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in GCC 12's own undefined registers
#include <immintrin.h>

#include "bytes.h"

namespace apa {
namespace {

constexpr size_t kWidth = 64;

// 256 entries are four registers: two permutations choose among 128 each by the low seven bits, the top bit between.
struct Rows {
  __m512i at[4];
};

inline void read(Rows& rows, const uint8_t* table) {
  for (int r = 0; r < 4; r++) rows.at[r] = _mm512_loadu_si512(table + 64 * r);
}

inline __m512i look_up(const Rows& rows, __m512i v) {
  const __m512i low = _mm512_permutex2var_epi8(rows.at[0], v, rows.at[1]);
  const __m512i high = _mm512_permutex2var_epi8(rows.at[2], v, rows.at[3]);
  return _mm512_mask_blend_epi8(_mm512_movepi8_mask(v), low, high);
}

inline __mmask64 first(size_t count) { return count >= kWidth ? ~0ull : (1ull << count) - 1; }

void lookup(const uint8_t* table, const uint8_t* x, uint8_t* y, size_t n) {
  Rows rows;
  read(rows, table);
  size_t i = 0;
  for (; i + 4 * kWidth <= n; i += 4 * kWidth)
    for (size_t k = 0; k < 4 * kWidth; k += kWidth)
      _mm512_storeu_si512(y + i + k, look_up(rows, _mm512_loadu_si512(x + i + k)));
  for (; i < n; i += kWidth) {
    const __mmask64 mask = first(n - i);
    _mm512_mask_storeu_epi8(y + i, mask, look_up(rows, _mm512_maskz_loadu_epi8(mask, x + i)));
  }
}

struct Factors {
  __m512i factor[4], constant[4];
};

inline __m512i summed(__m512i pairs, __m512i factor, __m512i constant, __m128i shift) {
  return _mm512_sra_epi32(_mm512_add_epi32(_mm512_madd_epi16(pairs, factor), constant), shift);
}

inline __m512i codes(__m512i a, __m512i b, const Factors& f, __m128i shift) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i low = _mm512_unpacklo_epi8(a, b), high = _mm512_unpackhi_epi8(a, b);
  const __m512i s0 = summed(_mm512_unpacklo_epi8(low, zero), f.factor[0], f.constant[0], shift);
  const __m512i s1 = summed(_mm512_unpackhi_epi8(low, zero), f.factor[1], f.constant[1], shift);
  const __m512i s2 = summed(_mm512_unpacklo_epi8(high, zero), f.factor[2], f.constant[2], shift);
  const __m512i s3 = summed(_mm512_unpackhi_epi8(high, zero), f.factor[3], f.constant[3], shift);
  return _mm512_packus_epi16(_mm512_packs_epi32(s0, s1), _mm512_packs_epi32(s2, s3));
}

void sum(const uint8_t* table, const Sum& s, const uint8_t* a, const uint8_t* b, uint8_t* y, size_t n) {
  Rows rows;
  read(rows, table);
  Factors f;
  const uint32_t pair = static_cast<uint16_t>(s.factor_a) | static_cast<uint32_t>(static_cast<uint16_t>(s.factor_b)) << 16;
  for (int j = 0; j < 4; j++) {
    f.factor[j] = _mm512_set1_epi32(static_cast<int>(pair));
    f.constant[j] = _mm512_set1_epi32(s.constant);
  }
  const __m128i shift = _mm_cvtsi32_si128(s.shift);
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(s.flip));
  for (size_t i = 0; i < n; i += kWidth) {
    const __mmask64 mask = first(n - i);
    const __m512i va = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, a + i), flip);
    const __m512i vb = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, b + i), flip);
    _mm512_mask_storeu_epi8(y + i, mask, look_up(rows, codes(va, vb, f, shift)));
  }
}

void channels(const uint8_t* table, const ChannelSums& s, const uint8_t* a, const uint8_t* b, uint8_t* y,
              size_t pixels) {
  Rows rows;
  read(rows, table);
  const __m128i shift = _mm_cvtsi32_si128(s.shift);
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(s.flip));
  for (size_t c = 0; c < s.channels; c += kWidth) {
    Factors f;
    for (size_t j = 0; j < 4; j++) {
      f.factor[j] = _mm512_loadu_si512(s.factors + 2 * c + 32 * j);
      f.constant[j] = _mm512_loadu_si512(s.constants + c + 16 * j);
    }
    for (size_t p = 0, i = c; p < pixels; p++, i += s.channels) {
      const __m512i va = _mm512_xor_si512(_mm512_loadu_si512(a + i), flip);
      const __m512i vb = _mm512_xor_si512(_mm512_loadu_si512(b + i), flip);
      _mm512_storeu_si512(y + i, look_up(rows, codes(va, vb, f, shift)));
    }
  }
}

}  // namespace

const ByteKernels& vbmi_byte_kernels() {
  static const ByteKernels kernels{"vbmi", kWidth, lookup, sum, channels};
  return kernels;
}

}  // namespace apa

#endif  // __x86_64__
