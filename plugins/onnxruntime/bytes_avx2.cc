// The byte kernels for AVX2: 32 codes at a time.
#if defined(__x86_64__)

#ifndef APA_NO_TARGET
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#endif

#include <immintrin.h>

#include "bytes.h"

namespace apa {
namespace {

constexpr size_t kWidth = 32;

// A table of 256 as two halves of eight rows of 16. Rows are stored as differences (exclusive or) to the one before:
// pshufb gives 0 where the index's top bit is set, so with the index v - 16r row r takes part from v = 16r on, and
// what takes part adds up to the row that v is in. In the other half the sum is of no use, and blended away.
struct Rows {
  __m256i low[8], high[8];
};

inline __m256i load(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
inline void store(void* at, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(at), v); }

inline void read(Rows& rows, const uint8_t* table) {
  for (int r = 7; r >= 0; r--) {
    const auto row = [&](int i) {
      return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table + 16 * i)));
    };
    rows.low[r] = r ? _mm256_xor_si256(row(r), row(r - 1)) : row(0);
    rows.high[r] = r ? _mm256_xor_si256(row(8 + r), row(7 + r)) : row(8);
  }
}

inline __m256i half(const __m256i* rows, __m256i v) {
  const __m256i sixteen = _mm256_set1_epi8(16);
  __m256i result = _mm256_shuffle_epi8(rows[0], v);
  for (int r = 1; r < 8; r++) {
    v = _mm256_sub_epi8(v, sixteen);
    result = _mm256_xor_si256(result, _mm256_shuffle_epi8(rows[r], v));
  }
  return result;
}

inline __m256i look_up(const Rows& rows, __m256i v) {
  const __m256i high = half(rows.high, _mm256_xor_si256(v, _mm256_set1_epi8(static_cast<char>(0x80))));
  return _mm256_blendv_epi8(half(rows.low, v), high, v);
}

void lookup(const uint8_t* table, const uint8_t* x, uint8_t* y, size_t n) {
  Rows rows;
  read(rows, table);
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) store(y + i, look_up(rows, load(x + i)));
  scalar_byte_kernels().lookup(table, x + i, y + i, n - i);
}

// Pairs of bytes (a, b) as 32-bit sums, back as clamped bytes in the order they came in.
struct Factors {
  __m256i factor[4], constant[4];
};

inline __m256i summed(__m256i pairs, __m256i factor, __m256i constant, __m128i shift) {
  return _mm256_sra_epi32(_mm256_add_epi32(_mm256_madd_epi16(pairs, factor), constant), shift);
}

inline __m256i codes(__m256i a, __m256i b, const Factors& f, __m128i shift) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i low = _mm256_unpacklo_epi8(a, b), high = _mm256_unpackhi_epi8(a, b);
  const __m256i s0 = summed(_mm256_unpacklo_epi8(low, zero), f.factor[0], f.constant[0], shift);
  const __m256i s1 = summed(_mm256_unpackhi_epi8(low, zero), f.factor[1], f.constant[1], shift);
  const __m256i s2 = summed(_mm256_unpacklo_epi8(high, zero), f.factor[2], f.constant[2], shift);
  const __m256i s3 = summed(_mm256_unpackhi_epi8(high, zero), f.factor[3], f.constant[3], shift);
  return _mm256_packus_epi16(_mm256_packs_epi32(s0, s1), _mm256_packs_epi32(s2, s3));
}

void sum(const uint8_t* table, const Sum& s, const uint8_t* a, const uint8_t* b, uint8_t* y, size_t n) {
  Rows rows;
  read(rows, table);
  Factors f;
  const uint32_t pair = static_cast<uint16_t>(s.factor_a) | static_cast<uint32_t>(static_cast<uint16_t>(s.factor_b)) << 16;
  for (int j = 0; j < 4; j++) {
    f.factor[j] = _mm256_set1_epi32(static_cast<int>(pair));
    f.constant[j] = _mm256_set1_epi32(s.constant);
  }
  const __m128i shift = _mm_cvtsi32_si128(s.shift);
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(s.flip));
  size_t i = 0;
  for (; i + kWidth <= n; i += kWidth) {
    const __m256i va = _mm256_xor_si256(load(a + i), flip), vb = _mm256_xor_si256(load(b + i), flip);
    store(y + i, look_up(rows, codes(va, vb, f, shift)));
  }
  scalar_byte_kernels().sum(table, s, a + i, b + i, y + i, n - i);
}

void channels(const uint8_t* table, const ChannelSums& s, const uint8_t* a, const uint8_t* b, uint8_t* y,
              size_t pixels) {
  Rows rows;
  read(rows, table);
  const __m128i shift = _mm_cvtsi32_si128(s.shift);
  const __m256i flip = _mm256_set1_epi8(static_cast<char>(s.flip));
  for (size_t c = 0; c < s.channels; c += kWidth) {
    Factors f;
    for (size_t j = 0; j < 4; j++) {
      f.factor[j] = load(s.factors + 2 * c + 16 * j);
      f.constant[j] = load(s.constants + c + 8 * j);
    }
    for (size_t p = 0, i = c; p < pixels; p++, i += s.channels) {
      const __m256i va = _mm256_xor_si256(load(a + i), flip), vb = _mm256_xor_si256(load(b + i), flip);
      store(y + i, look_up(rows, codes(va, vb, f, shift)));
    }
  }
}

}  // namespace

const ByteKernels& avx2_byte_kernels() {
  static const ByteKernels kernels{"avx2", kWidth, lookup, sum, channels};
  return kernels;
}

}  // namespace apa

#endif  // __x86_64__
