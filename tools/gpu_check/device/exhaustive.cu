// Every one of the 2^32 floats through the kernels' own arithmetic, beside the formula in float64, for 24 pairs of lambda
// and kappa; prints a line of JSON for each pair and kind.
//
//     exhaustive [EVERY]      EVERY: only each so many (a power of two), where a processor takes a device's place
//
// {"kind", "lambda", "kappa", "floats", "worst", "at", "wrong", "seconds"}
// worst: the largest error, of max(1, |exact|), and `at` where it is; wrong: results that are NaN or infinite where the
// exact one is not, or the other way round. Exit code 3: no device.
#include <cuda_runtime.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "kernels/device_math.cuh"

namespace apa {

constexpr int kBlock = 256;

int blocks = 4096;

// What one thread has seen.
struct Seen {
  double worst;
  uint32_t at;
  uint32_t wrong;
};

// The textbook formula, independent of apa/math.h: log1p(e^a) is a where e^a would overflow.
APA_HOST_DEVICE double exact_gate(double z, double lambda, double kappa) {
  if (lambda == 0) return ::exp(-::exp(-kappa * z));
  const double a = ::log(lambda) - kappa * z;
  return ::exp(-(a > 700 ? a : ::log1p(::exp(a))) / lambda);
}

APA_HOST_DEVICE float float_of(uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(bits);
#else
  float z;
  std::memcpy(&z, &bits, sizeof z);
  return z;
#endif
}

template <Kind kKind, Regime kRegime>
__global__ void compare(Coefficients<float> c, double lambda, double kappa, uint32_t every, Seen* seen) {
  const uint32_t me = blockIdx.x * blockDim.x + threadIdx.x, threads = gridDim.x * blockDim.x;
  Seen mine = {0, 0, 0};
  for (uint64_t n = me; n < (uint64_t{1} << 32) / every; n += threads) {
    const uint32_t bits = static_cast<uint32_t>(n * every + n % every);  // all exponents, changing low bits
    const float z = float_of(bits);
    const double got = OneRegime<kKind, kRegime>::at(z, c);
    const double gate = exact_gate(z, lambda, kappa), exact = kKind == Kind::Gate ? gate : z * gate;
    if (std::isfinite(got) && std::isfinite(exact)) {
      const double size = ::fabs(exact), error = ::fabs(got - exact) / (size > 1 ? size : 1);
      if (error > mine.worst) mine.worst = error, mine.at = bits;
    } else if (!(got == exact || (std::isnan(got) && std::isnan(exact)))) {
      mine.wrong++;
      if (mine.worst == 0) mine.at = bits;
    }
  }
  seen[me] = mine;
}

void must(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  const bool absent = error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver;
  std::fprintf(stderr, "%s: %s\n", absent ? "no device" : what, cudaGetErrorString(error));
  std::exit(absent ? 3 : 1);
}

template <Kind kKind, Regime kRegime>
void start(double lambda, double kappa, uint32_t every, Seen* seen) {
  const Coefficients<float> c = coefficients<float>(lambda, kappa);
#if defined(__CUDACC__)
  compare<kKind, kRegime><<<blocks, kBlock>>>(c, lambda, kappa, every, seen);
  must(cudaGetLastError(), "launch");
#else
  cuda_cpu::run_grid(static_cast<unsigned>(blocks), kBlock, [=] { compare<kKind, kRegime>(c, lambda, kappa, every, seen); });
#endif
}

template <Kind kKind>
void measure(const char* name, double lambda, double kappa, uint32_t every, Seen* seen) {
  const auto before = std::chrono::steady_clock::now();
  if (coefficients<float>(lambda, kappa).regime == Regime::Small) {
    start<kKind, Regime::Small>(lambda, kappa, every, seen);
  } else {
    start<kKind, Regime::Large>(lambda, kappa, every, seen);
  }
  std::vector<Seen> all(static_cast<size_t>(blocks) * kBlock);
  must(cudaMemcpy(all.data(), seen, all.size() * sizeof(Seen), cudaMemcpyDeviceToHost), "the kernel");
  Seen worst = {0, 0, 0};
  uint64_t wrong = 0;
  for (const Seen& one : all) {
    wrong += one.wrong;
    if (one.worst > worst.worst || (one.wrong && !worst.wrong)) worst = one;
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
  std::printf("{\"kind\": \"%s\", \"lambda\": %.9g, \"kappa\": %.9g, \"floats\": %llu, \"worst\": %.4g, "
              "\"at\": \"0x%08x\", \"wrong\": %llu, \"seconds\": %.3f}\n", name, lambda, kappa,
              static_cast<unsigned long long>((uint64_t{1} << 32) / every), worst.worst, worst.at,
              static_cast<unsigned long long>(wrong), seconds);
  std::fflush(stdout);
}

}  // namespace apa

int main(int argc, char** argv) {
  const uint32_t every = argc > 1 ? static_cast<uint32_t>(std::strtoul(argv[1], nullptr, 10)) : 1;
  if (every > 1) apa::blocks = 4;
  // float32, as a layer keeps them. On both sides of 1/4, where the arrangement of the formula changes.
  const float lambdas[] = {0,     1e-30f, 1e-8f, 1e-4f, 1e-3f, 0.01f, 0.03f, 0.1f, 0.15f, 0.2f, 0.24f, 0.2499999f,
                           0.25f, 0.3f,   0.4f,  0.5f,  0.7f,  1,     1.5f,  2,    5,     10,   30,    100};
  const float kappas[] = {1, 0.7f, 1.3f, 2, -0.5f, 0.25f};
  apa::Seen* seen = nullptr;
  apa::must(cudaMalloc(reinterpret_cast<void**>(&seen), sizeof(apa::Seen) * static_cast<size_t>(apa::blocks) * apa::kBlock),
            "cudaMalloc");
  for (size_t i = 0; i < sizeof lambdas / sizeof *lambdas; i++) {
    const double lambda = lambdas[i], kappa = kappas[i % 6];
    apa::measure<apa::Kind::Gate>("APA", lambda, kappa, every, seen);
    apa::measure<apa::Kind::Unit>("AGLU", lambda, kappa, every, seen);
  }
  return cudaFree(seen) == cudaSuccess ? 0 : 1;
}
