// The table kernels for AVX-512: 16 lanes. The coefficients stay in registers: 32 segments are two registers a
// power, and one permutation looks all 16 lanes up.
#if defined(__x86_64__)

// Ahead of every header, so that the maths may be inlined. No function but the kernels leaves this file: the
// linker must not take code for this processor for another's (a test looks for weak symbols).
#ifndef APA_NO_TARGET
#pragma GCC target("avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,fma,f16c,bmi,bmi2")
#endif

#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // in GCC 12's own _mm512_undefined_ps
#include <immintrin.h>

#include <cstring>
#include <type_traits>

#include "table.h"

namespace apa {
namespace {

struct Avx512 {
  using V = __m512;
  using Real = V;
  static constexpr int kWidth = 16;
  static constexpr bool kBySegment = false;

  static APA_HOST_DEVICE V all(float x) { return _mm512_set1_ps(x); }
  static APA_HOST_DEVICE V load(const void* at) { return _mm512_loadu_ps(at); }
  static APA_HOST_DEVICE void store(void* at, V x) { _mm512_storeu_ps(at, x); }
  static APA_HOST_DEVICE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static APA_HOST_DEVICE V fms(V a, V b, V c) { return _mm512_fmsub_ps(a, b, c); }
  static APA_HOST_DEVICE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
  static APA_HOST_DEVICE V sub(V a, V b) { return _mm512_sub_ps(a, b); }
  static APA_HOST_DEVICE V min(V a, V b) { return _mm512_min_ps(a, b); }
  static APA_HOST_DEVICE V max(V a, V b) { return _mm512_max_ps(a, b); }
  static APA_HOST_DEVICE V flipped(V a, V signs) { return _mm512_xor_ps(a, signs); }
  static APA_HOST_DEVICE unsigned below(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }

  static APA_HOST_DEVICE V load_as(float, const void* at) { return load(at); }
  static APA_HOST_DEVICE V load_as(Half, const void* at) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i*>(at)));
  }
  static APA_HOST_DEVICE V load_as(Bfloat16, const void* at) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(static_cast<const __m256i*>(at)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
  }
  static APA_HOST_DEVICE void store_as(float, void* at, V x) { store(at, x); }
  static APA_HOST_DEVICE void store_as(Half, void* at, V x) {
    constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    _mm256_storeu_si256(static_cast<__m256i*>(at), _mm512_cvtps_ph(x, kNearest));
  }
  // Ties to even by adding 0x7fff and the last kept bit; NaN, which that could turn into inf, apart.
  static APA_HOST_DEVICE void store_as(Bfloat16, void* at, V x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i sum = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    const __m512i kept = _mm512_mask_mov_epi32(sum, nan, _mm512_set1_epi32(0x7fc00000));
    _mm256_storeu_si256(static_cast<__m256i*>(at), _mm512_cvtepi32_epi16(_mm512_srli_epi32(kept, 16)));
  }

  // y * 2^v for v <= 0. Where 2^r is above 1 the power is below it, so y * 2^r is no smaller than the result: it is
  // flushed only where that is. Nor does it overflow: where |y| > 2^64 either 2^v is 1 - 2^-26 or another answers.
  static APA_HOST_DEVICE V times_exp2(V y, V v) {
    const V rounder = all(VectorMath::kRounder);
    const V n = sub(_mm512_add_ps(v, rounder), rounder);
    return _mm512_scalef_ps(mul(y, exp2_fraction<Avx512>(sub(v, n))), n);
  }

  template <int kDegree>
  struct Lookup {
    V low[kDegree + 1], high[kDegree + 1];
    explicit Lookup(const Table& t) {
#pragma GCC unroll 8
      for (int i = 0; i <= kDegree; i++) {
        low[i] = load(t.values + 32 * i);
        high[i] = load(t.values + 32 * i + 16);
      }
    }
    APA_HOST_DEVICE V operator()(V shifted, V f) const {
      const __m512i segment = _mm512_castps_si512(shifted);  // the permutation reads five bits
      V q = _mm512_permutex2var_ps(low[kDegree], segment, high[kDegree]);
#pragma GCC unroll 8
      for (int i = kDegree - 1; i >= 0; i--) q = fma(q, f, _mm512_permutex2var_ps(low[i], segment, high[i]));
      return q;
    }
  };
};

}  // namespace
}  // namespace apa

#include "table_row.h"

namespace apa {

const TableKernels& avx512_kernels(Element element) {
  static constexpr TableKernels real = kernels<Avx512, 7, float>(32, 32, 32);
  static constexpr TableKernels half = kernels<Avx512, 4, Half>(32, 32, 32);
  static constexpr TableKernels bfloat16 = kernels<Avx512, 3, Bfloat16>(32, 32, 32);
  return element == Element::Float16 ? half : element == Element::Bfloat16 ? bfloat16 : real;
}

}  // namespace apa

#endif
