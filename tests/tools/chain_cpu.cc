// The program of chains on the CPU: every dependent launch begins before what comes before it has done anything.
#define run run_resident
#include "trt_kernels_cpu.cc"
//
#include "chain.cu"  // the program itself

namespace {
const bool kLate = (cuda_cpu::late = true);
const int kCode = (cuda_cpu::code = std::getenv("CODE") ? std::atoi(std::getenv("CODE")) : 90);
}  // namespace
