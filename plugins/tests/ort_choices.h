// Every kernel that this build can run: wanted by name, for each instruction set.
#ifndef APA_ORT_CHOICES_H
#define APA_ORT_CHOICES_H

#include <cstring>
#include <stdexcept>
#include <vector>

#include "choice.h"

namespace apa {

inline const char* name_of(Instructions set) {
  constexpr const char* kNames[] = {"none", "neon", "avx2", "avx512"};
  return kNames[static_cast<int>(set)];
}

// Compiled with avx512_emulated/ ahead, AVX-512 runs on any AVX2 processor.
inline std::vector<Instructions> runnable_sets() {
  std::vector<Instructions> sets{Instructions::None};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) sets.push_back(Instructions::Avx2);
#ifdef APA_EMULATES_AVX512
  sets.push_back(Instructions::Avx512);
#else
  if (__builtin_cpu_supports("avx512f")) sets.push_back(Instructions::Avx512);
#endif
#elif defined(__aarch64__)
  sets.push_back(Instructions::Neon);
#endif
  return sets;
}

inline Instructions set_of(const char* name) {
  for (Instructions set : runnable_sets())
    if (!std::strcmp(name, name_of(set))) return set;
  throw std::invalid_argument(name);
}

inline std::vector<Choice> runnable_choices() {
  std::vector<Choice> all{{Wanted::Exact, Instructions::None}, {Wanted::Best, Instructions::None}};
  for (Instructions set : runnable_sets())
    if (set != Instructions::None)
      for (Wanted wanted : {Wanted::Acc, Wanted::Pw}) all.push_back({wanted, set});
  return all;
}

}  // namespace apa

#endif  // APA_ORT_CHOICES_H
