#ifndef APA_GPU_CHECK_NUMBERS_H
#define APA_GPU_CHECK_NUMBERS_H

#include <cstddef>
#include <cstdint>
#include <vector>

// Numbers of magnitude below 2 in every float type: the top bit of the exponent is clear. Not zeros, which cost
// less power than what a network computes on, and so keep the clocks up.
inline std::vector<unsigned char> numbers(size_t bytes) {
  std::vector<unsigned char> values(bytes);
  uint32_t state = 1;
  for (unsigned char& value : values) {
    state = state * 1664525u + 1013904223u;
    value = static_cast<unsigned char>(state >> 24 & 0xBFu);
  }
  return values;
}

#endif  // APA_GPU_CHECK_NUMBERS_H
