// The program of every float on the CPU, with the documented errors of a device's functions.
#include "cuda_cpu.h"

#include "cuda_errors.h"
#include "exhaustive.cu"  // the program itself

#ifndef FAULT
#define FAULT 1.f
#endif

namespace apa {
const bool kRandom = (cuda_errors::mode = cuda_errors::Mode::Random, true);
float Approximate::exp2(float x) { return FAULT * cuda_errors::exp2(x); }
float Approximate::log2(float x) { return cuda_errors::log2(x); }
}  // namespace apa
