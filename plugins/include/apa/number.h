// float16 and bfloat16 as bits, to and from float32: branchless, so that a compiler vectorises them.
#ifndef APA_NUMBER_H
#define APA_NUMBER_H

#include "apa/vector_math.h"

namespace apa {

struct Half { uint16_t bits; };
struct Bfloat16 { uint16_t bits; };

// Exact, subnormals included, also where the processor flushes float32 subnormals.
APA_HOST_DEVICE float widened(Half value) {
  const uint32_t shifted = (value.bits & 0x7fffu) << 13;
  const uint32_t exponent = shifted & 0x0f800000u;
  const float normal = as_float(shifted + ((127u - 15u) << 23));
  const float subnormal = as_float(shifted + (113u << 23)) - 0x1p-14f;
  const float special = as_float(shifted + ((255u - 31u) << 23));
  const float magnitude = exponent == 0 ? subnormal : exponent == 0x0f800000u ? special : normal;
  return as_float(as_bits(magnitude) | static_cast<uint32_t>(value.bits & 0x8000u) << 16);
}

APA_HOST_DEVICE float widened(Bfloat16 value) { return as_float(static_cast<uint32_t>(value.bits) << 16); }

// Round to nearest, ties to even; overflow to inf; NaN to the quiet NaN.
APA_HOST_DEVICE Half narrowed_half(float value) {
  const uint32_t bits = as_bits(value), magnitude = bits & 0x7fffffffu;
  const uint32_t rebias = static_cast<uint32_t>(15 - 127) << 23;
  const uint32_t normal = (magnitude + rebias + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const uint32_t subnormal = as_bits(as_float(magnitude) + 0.5f) - 0x3f000000u;  // the adder rounds to 2^-24
  const uint32_t special = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  const uint32_t result = magnitude >= 0x47800000u ? special : magnitude < 0x38800000u ? subnormal : normal;
  return Half{static_cast<uint16_t>(result | (bits >> 16 & 0x8000u))};
}

APA_HOST_DEVICE Bfloat16 narrowed_bfloat16(float value) {
  const uint32_t bits = as_bits(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return Bfloat16{static_cast<uint16_t>(value == value ? rounded : 0x7fc0u)};
}

}  // namespace apa

#endif  // APA_NUMBER_H
