// Ahead of the compiler's <immintrin.h>: the AVX-512 intrinsics that table_avx512.cc and bytes_vbmi.cc use, one number at a
// time, as Intel's manual defines them, so that their kernels run and are judged on a processor without AVX-512.
// What this cannot show is that compiler and processor do the same.
#include_next <immintrin.h>

#ifndef APA_AVX512_EMULATED
#define APA_AVX512_EMULATED

#include <cmath>
#include <cstdint>
#include <cstring>

// Out of line: inlined everywhere, they would take a compiler minutes.
#define APA_EMULATED inline __attribute__((noinline))

namespace apa_emulated {

struct Floats { float at[16]; };
struct Integers { uint32_t at[16]; };

APA_EMULATED Integers bits(Floats a) { Integers r; std::memcpy(&r, &a, sizeof r); return r; }
APA_EMULATED Floats floats(Integers a) { Floats r; std::memcpy(&r, &a, sizeof r); return r; }

template <class R, class F>
inline R each(F f) {
  R r;
  for (int i = 0; i < 16; i++) r.at[i] = f(i);
  return r;
}

APA_EMULATED Floats set1(float x) { return each<Floats>([&](int) { return x; }); }
APA_EMULATED Integers set1(int32_t x) { return each<Integers>([&](int) { return static_cast<uint32_t>(x); }); }
APA_EMULATED Floats load(const void* at) { Floats r; std::memcpy(&r, at, sizeof r); return r; }
APA_EMULATED void store(void* at, Floats a) { std::memcpy(at, &a, sizeof a); }

APA_EMULATED Floats add(Floats a, Floats b) { return each<Floats>([&](int i) { return a.at[i] + b.at[i]; }); }
APA_EMULATED Floats sub(Floats a, Floats b) { return each<Floats>([&](int i) { return a.at[i] - b.at[i]; }); }
APA_EMULATED Floats mul(Floats a, Floats b) { return each<Floats>([&](int i) { return a.at[i] * b.at[i]; }); }
APA_EMULATED Floats fma(Floats a, Floats b, Floats c) { return each<Floats>([&](int i) { return std::fma(a.at[i], b.at[i], c.at[i]); }); }
APA_EMULATED Floats fms(Floats a, Floats b, Floats c) { return each<Floats>([&](int i) { return std::fma(a.at[i], b.at[i], -c.at[i]); }); }
// The second operand where either is NaN or both are zero.
APA_EMULATED Floats min(Floats a, Floats b) { return each<Floats>([&](int i) { return a.at[i] < b.at[i] ? a.at[i] : b.at[i]; }); }
APA_EMULATED Floats max(Floats a, Floats b) { return each<Floats>([&](int i) { return a.at[i] > b.at[i] ? a.at[i] : b.at[i]; }); }
// One rounding: the product is exact in float64, and so is a power of two beyond float32's.
APA_EMULATED Floats scalef(Floats a, Floats b) {
  return each<Floats>([&](int i) {
    const double power = std::fmin(600, std::fmax(-600, std::floor(static_cast<double>(b.at[i]))));
    return std::isnan(b.at[i]) ? b.at[i] : static_cast<float>(a.at[i] * std::exp2(power));
  });
}
APA_EMULATED Floats xor_(Floats a, Floats b) { return floats(each<Integers>([&](int i) { return bits(a).at[i] ^ bits(b).at[i]; })); }

APA_EMULATED uint16_t cmp(Floats a, Floats b, int predicate) {
  uint16_t r = 0;
  for (int i = 0; i < 16; i++) {
    const bool unordered = std::isnan(a.at[i]) || std::isnan(b.at[i]);
    r |= static_cast<uint16_t>((predicate == _CMP_UNORD_Q ? unordered : a.at[i] < b.at[i]) << i);
  }
  return r;
}

APA_EMULATED Floats permutex2var(Floats a, Integers index, Floats b) {
  return each<Floats>([&](int i) { return (index.at[i] & 16 ? b : a).at[index.at[i] & 15]; });
}

APA_EMULATED Integers add(Integers a, Integers b) { return each<Integers>([&](int i) { return a.at[i] + b.at[i]; }); }
APA_EMULATED Integers and_(Integers a, Integers b) { return each<Integers>([&](int i) { return a.at[i] & b.at[i]; }); }
APA_EMULATED Integers slli(Integers a, int n) { return each<Integers>([&](int i) { return a.at[i] << n; }); }
APA_EMULATED Integers srli(Integers a, int n) { return each<Integers>([&](int i) { return a.at[i] >> n; }); }
APA_EMULATED Integers mask_mov(Integers a, uint16_t mask, Integers b) {
  return each<Integers>([&](int i) { return (mask >> i & 1) ? b.at[i] : a.at[i]; });
}
APA_EMULATED Integers cvtepu16(__m256i a) {
  uint16_t at[16];
  std::memcpy(at, &a, sizeof at);
  return each<Integers>([&](int i) { return uint32_t{at[i]}; });
}
APA_EMULATED __m256i cvtepi32_epi16(Integers a) {
  uint16_t at[16];
  for (int i = 0; i < 16; i++) at[i] = static_cast<uint16_t>(a.at[i]);
  __m256i r;
  std::memcpy(&r, at, sizeof r);
  return r;
}
APA_EMULATED Floats cvtph(__m256i a) {
  Floats r;
  _mm256_storeu_ps(r.at, _mm256_cvtph_ps(_mm256_castsi256_si128(a)));
  _mm256_storeu_ps(r.at + 8, _mm256_cvtph_ps(_mm256_extracti128_si256(a, 1)));
  return r;
}
APA_EMULATED __m256i cvtps_ph(Floats a, int) {
  return _mm256_set_m128i(_mm256_cvtps_ph(_mm256_loadu_ps(a.at + 8), _MM_FROUND_TO_NEAREST_INT),
                          _mm256_cvtps_ph(_mm256_loadu_ps(a.at), _MM_FROUND_TO_NEAREST_INT));
}

// 64 bytes: what bytes_vbmi.cc works on. Integers hold them in memory's order.
template <class T, class F>
inline Integers elements(F f) {
  T at[64 / sizeof(T)];
  for (size_t i = 0; i < 64 / sizeof(T); i++) at[i] = static_cast<T>(f(i));
  Integers r;
  std::memcpy(&r, at, sizeof r);
  return r;
}
template <class T>
inline T element(const Integers& a, size_t i) {
  T r;
  std::memcpy(&r, reinterpret_cast<const char*>(&a) + i * sizeof(T), sizeof r);
  return r;
}
template <class T>
inline T saturated(int32_t x) {
  constexpr int32_t low = static_cast<T>(-1) < 0 ? -32768 : 0, high = static_cast<T>(-1) < 0 ? 32767 : 255;
  return static_cast<T>(x < low ? low : x > high ? high : x);
}

APA_EMULATED Integers load_integers(const void* at) { Integers r; std::memcpy(&r, at, sizeof r); return r; }
APA_EMULATED void store_integers(void* at, Integers a) { std::memcpy(at, &a, sizeof a); }
APA_EMULATED Integers maskz_load(uint64_t mask, const void* at) {
  return elements<uint8_t>([&](size_t i) { return mask >> i & 1 ? static_cast<const uint8_t*>(at)[i] : 0; });
}
APA_EMULATED void mask_store(void* at, uint64_t mask, Integers a) {
  for (size_t i = 0; i < 64; i++)
    if (mask >> i & 1) static_cast<uint8_t*>(at)[i] = element<uint8_t>(a, i);
}
APA_EMULATED Integers set1(int8_t x) { return elements<int8_t>([&](size_t) { return x; }); }
APA_EMULATED Integers xor_(Integers a, Integers b) { return each<Integers>([&](int i) { return a.at[i] ^ b.at[i]; }); }
APA_EMULATED Integers permute_bytes(Integers a, Integers index, Integers b) {
  return elements<uint8_t>([&](size_t i) {
    const uint8_t at = element<uint8_t>(index, i);
    return element<uint8_t>(at & 64 ? b : a, at & 63);
  });
}
APA_EMULATED uint64_t top_bits(Integers a) {
  uint64_t r = 0;
  for (size_t i = 0; i < 64; i++) r |= static_cast<uint64_t>(element<uint8_t>(a, i) >> 7) << i;
  return r;
}
APA_EMULATED Integers blend_bytes(uint64_t mask, Integers a, Integers b) {
  return elements<uint8_t>([&](size_t i) { return element<uint8_t>(mask >> i & 1 ? b : a, i); });
}
// Lane by lane of 16 bytes, eight of each operand by turns.
APA_EMULATED Integers unpack(Integers a, Integers b, size_t from) {
  return elements<uint8_t>([&](size_t i) { return element<uint8_t>(i & 1 ? b : a, i / 16 * 16 + from + i % 16 / 2); });
}
APA_EMULATED Integers unpacklo(Integers a, Integers b) { return unpack(a, b, 0); }
APA_EMULATED Integers unpackhi(Integers a, Integers b) { return unpack(a, b, 8); }
APA_EMULATED Integers madd(Integers a, Integers b) {
  return elements<int32_t>([&](size_t i) {
    return element<int16_t>(a, 2 * i) * element<int16_t>(b, 2 * i) + element<int16_t>(a, 2 * i + 1) * element<int16_t>(b, 2 * i + 1);
  });
}
APA_EMULATED Integers sra(Integers a, __m128i count) {
  const int n = _mm_cvtsi128_si32(count);
  return elements<int32_t>([&](size_t i) { return element<int32_t>(a, i) >> n; });
}
APA_EMULATED Integers packs(Integers a, Integers b) {
  return elements<int16_t>([&](size_t i) { return saturated<int16_t>(element<int32_t>(i % 8 < 4 ? a : b, i / 8 * 4 + i % 4)); });
}
APA_EMULATED Integers packus(Integers a, Integers b) {
  return elements<uint8_t>([&](size_t i) { return saturated<uint8_t>(element<int16_t>(i % 16 < 8 ? a : b, i / 16 * 8 + i % 8)); });
}

}  // namespace apa_emulated

// Macros where a compiler does not optimise.
#undef _mm512_cmp_ps_mask
#undef _mm512_slli_epi32
#undef _mm512_srli_epi32
#undef _mm512_cvtps_ph
#undef _mm512_mask_blend_epi8

#define __m512 apa_emulated::Floats
#define __m512i apa_emulated::Integers
#define __mmask16 uint16_t
#define _mm512_set1_ps(x) apa_emulated::set1(static_cast<float>(x))
#define _mm512_set1_epi32(x) apa_emulated::set1(static_cast<int32_t>(x))
#define _mm512_loadu_ps apa_emulated::load
#define _mm512_storeu_ps apa_emulated::store
#define _mm512_add_ps apa_emulated::add
#define _mm512_sub_ps apa_emulated::sub
#define _mm512_mul_ps apa_emulated::mul
#define _mm512_fmadd_ps apa_emulated::fma
#define _mm512_fmsub_ps apa_emulated::fms
#define _mm512_min_ps apa_emulated::min
#define _mm512_max_ps apa_emulated::max
#define _mm512_scalef_ps apa_emulated::scalef
#define _mm512_xor_ps apa_emulated::xor_
#define _mm512_cmp_ps_mask(a, b, p) apa_emulated::cmp(a, b, p)
#define _mm512_permutex2var_ps apa_emulated::permutex2var
#define _mm512_castps_si512 apa_emulated::bits
#define _mm512_castsi512_ps apa_emulated::floats
#define _mm512_add_epi32 apa_emulated::add
#define _mm512_and_si512 apa_emulated::and_
#define _mm512_slli_epi32 apa_emulated::slli
#define _mm512_srli_epi32 apa_emulated::srli
#define _mm512_mask_mov_epi32 apa_emulated::mask_mov
#define _mm512_cvtepu16_epi32 apa_emulated::cvtepu16
#define _mm512_cvtepi32_epi16 apa_emulated::cvtepi32_epi16
#define _mm512_cvtph_ps apa_emulated::cvtph
#define _mm512_cvtps_ph(a, r) apa_emulated::cvtps_ph(a, r)
#define __mmask64 uint64_t
#define _mm512_loadu_si512 apa_emulated::load_integers
#define _mm512_storeu_si512 apa_emulated::store_integers
#define _mm512_maskz_loadu_epi8 apa_emulated::maskz_load
#define _mm512_mask_storeu_epi8 apa_emulated::mask_store
#define _mm512_set1_epi8(x) apa_emulated::set1(static_cast<int8_t>(x))
#define _mm512_setzero_si512() apa_emulated::set1(static_cast<int32_t>(0))
#define _mm512_xor_si512 apa_emulated::xor_
#define _mm512_permutex2var_epi8 apa_emulated::permute_bytes
#define _mm512_movepi8_mask apa_emulated::top_bits
#define _mm512_mask_blend_epi8 apa_emulated::blend_bytes
#define _mm512_unpacklo_epi8 apa_emulated::unpacklo
#define _mm512_unpackhi_epi8 apa_emulated::unpackhi
#define _mm512_madd_epi16 apa_emulated::madd
#define _mm512_sra_epi32 apa_emulated::sra
#define _mm512_packs_epi32 apa_emulated::packs
#define _mm512_packus_epi16 apa_emulated::packus

#endif  // APA_AVX512_EMULATED
