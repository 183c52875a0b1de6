// The table kernels for AVX2: 8 lanes. A permutation reaches 8 segments only, but a load reaches any number, and
// a cubic is one 128-bit load: eight of them, transposed, are the coefficients of eight elements.
#if defined(__x86_64__)

// Ahead of every header, so that the maths may be inlined. No function but the kernels leaves this file: the
// linker must not take code for this processor for another's (a test looks for weak symbols).
#ifndef APA_NO_TARGET
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#endif

#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "table.h"

namespace apa {
namespace {

struct Avx2 {
  using V = __m256;
  using Real = V;
  static constexpr int kWidth = 8;
  static constexpr bool kBySegment = true;

  static APA_HOST_DEVICE V all(float x) { return _mm256_set1_ps(x); }
  static APA_HOST_DEVICE V load(const void* at) { return _mm256_loadu_ps(static_cast<const float*>(at)); }
  static APA_HOST_DEVICE void store(void* at, V x) { _mm256_storeu_ps(static_cast<float*>(at), x); }
  static APA_HOST_DEVICE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static APA_HOST_DEVICE V fms(V a, V b, V c) { return _mm256_fmsub_ps(a, b, c); }
  static APA_HOST_DEVICE V mul(V a, V b) { return _mm256_mul_ps(a, b); }
  static APA_HOST_DEVICE V sub(V a, V b) { return _mm256_sub_ps(a, b); }
  static APA_HOST_DEVICE V min(V a, V b) { return _mm256_min_ps(a, b); }
  static APA_HOST_DEVICE V max(V a, V b) { return _mm256_max_ps(a, b); }
  static APA_HOST_DEVICE V flipped(V a, V signs) { return _mm256_xor_ps(a, signs); }
  static APA_HOST_DEVICE unsigned below(V a, V b) {
    return static_cast<unsigned>(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_LT_OQ)));
  }

  static APA_HOST_DEVICE V load_as(float, const void* at) { return load(at); }
  static APA_HOST_DEVICE V load_as(Half, const void* at) {
    return _mm256_cvtph_ps(_mm_loadu_si128(static_cast<const __m128i*>(at)));
  }
  static APA_HOST_DEVICE V load_as(Bfloat16, const void* at) {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(static_cast<const __m128i*>(at)));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  static APA_HOST_DEVICE void store_as(float, void* at, V x) { store(at, x); }
  static APA_HOST_DEVICE void store_as(Half, void* at, V x) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm_storeu_si128(static_cast<__m128i*>(at), _mm256_cvtps_ph(x, kNearest));
  }
  // Ties to even by adding 0x7fff and the last kept bit; NaN, which that could turn into inf, apart.
  static APA_HOST_DEVICE void store_as(Bfloat16, void* at, V x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const V nan = _mm256_cmp_ps(x, x, _CMP_UNORD_Q);
    const V kept = _mm256_blendv_ps(_mm256_castsi256_ps(sum), all(as_float(0x7fc00000u)), nan);
    const __m256i high = _mm256_srli_epi32(_mm256_castps_si256(kept), 16);
    const __m128i packed = _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    _mm_storeu_si128(static_cast<__m128i*>(at), packed);
  }

  // y * 2^v for -252 < v <= 0, as VectorMath::times_exp2_of_product: one rounding, subnormal or not. Below 2^-176
  // every y in reach gives 0; a factor of 0 says so at once, where a product that underflows is slow.
  static APA_HOST_DEVICE V times_exp2(V y, V v) {
    const V rounder = all(VectorMath::kRounder);
    const V shifted = _mm256_add_ps(v, rounder);
    const V r = sub(v, sub(shifted, rounder));
    const V q = exp2_fraction<Avx2>(r);
    const __m256i rounder_bits = _mm256_set1_epi32(VectorMath::kRounderBits);
    const __m256i power = _mm256_sub_epi32(_mm256_castps_si256(shifted), rounder_bits);
    const __m256i last = _mm256_max_epi32(power, _mm256_set1_epi32(-125));
    const __m256i counts = _mm256_cmpgt_epi32(power, _mm256_set1_epi32(-177));
    const V factor = _mm256_and_ps(power_of_two(last), _mm256_castsi256_ps(counts));
    return mul(mul(y, power_of_two(_mm256_sub_epi32(power, last))), mul(q, factor));
  }
  static APA_HOST_DEVICE V power_of_two(__m256i exponent) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23));
  }

  template <int kDegree>
  struct Lookup {
    static_assert(kDegree == 3, "a row of the table is one cubic");
    const char* rows;
    const __m256i mask;
    explicit Lookup(const Table& t)
        : rows(reinterpret_cast<const char*>(t.values)), mask(_mm256_set1_epi32(static_cast<int>(t.mask))) {}

    // Two rows side by side.
    APA_HOST_DEVICE V pair(uint64_t first, uint64_t second) const {
      const __m256 low = _mm256_castps128_ps256(_mm_load_ps(reinterpret_cast<const float*>(rows + first)));
      return _mm256_insertf128_ps(low, _mm_load_ps(reinterpret_cast<const float*>(rows + second)), 1);
    }
    // Offsets leave the vector in pairs: through memory, eight more loads would compete with those of the rows.
    APA_HOST_DEVICE V operator()(V shifted, V f) const {
      const __m256i at = _mm256_slli_epi32(_mm256_and_si256(_mm256_castps_si256(shifted), mask), 4);
      const __m128i low = _mm256_castsi256_si128(at), high = _mm256_extracti128_si256(at, 1);
      const auto at01 = static_cast<uint64_t>(_mm_cvtsi128_si64(low));
      const auto at23 = static_cast<uint64_t>(_mm_extract_epi64(low, 1));
      const auto at45 = static_cast<uint64_t>(_mm_cvtsi128_si64(high));
      const auto at67 = static_cast<uint64_t>(_mm_extract_epi64(high, 1));
      const V a = pair(at01 & 0xffffffff, at45 & 0xffffffff), b = pair(at01 >> 32, at45 >> 32);
      const V c = pair(at23 & 0xffffffff, at67 & 0xffffffff), d = pair(at23 >> 32, at67 >> 32);
      const V ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d);    // powers 0 and 1
      const V ab2 = _mm256_unpackhi_ps(a, b), cd2 = _mm256_unpackhi_ps(c, d);  // powers 2 and 3
      const V c0 = _mm256_shuffle_ps(ab, cd, 0x44), c1 = _mm256_shuffle_ps(ab, cd, 0xee);
      const V c2 = _mm256_shuffle_ps(ab2, cd2, 0x44), c3 = _mm256_shuffle_ps(ab2, cd2, 0xee);
      return fma(fma(fma(c3, f, c2), f, c1), f, c0);
    }
  };
};

}  // namespace
}  // namespace apa

#include "table_row.h"

namespace apa {

const TableKernels& avx2_kernels(Element element) {
  static constexpr TableKernels real = kernels<Avx2, 3, float>(256, 512, 256);
  static constexpr TableKernels half = kernels<Avx2, 3, Half>(64, 64, 64);
  static constexpr TableKernels bfloat16 = kernels<Avx2, 3, Bfloat16>(32, 32, 32);
  return element == Element::Float16 ? half : element == Element::Bfloat16 ? bfloat16 : real;
}

}  // namespace apa

#endif
