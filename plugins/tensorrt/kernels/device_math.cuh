// The device's policy for apa/math.h: two hardware approximations and the header's polynomial.
#ifndef APA_TENSORRT_DEVICE_MATH_CUH
#define APA_TENSORRT_DEVICE_MATH_CUH

#include "activation.h"

namespace apa {

// ex2.approx.ftz: 2 ulp, subnormals are 0. lg2.approx.ftz: 2^-22, absolute in (1/2, 2), relative elsewhere.
struct Approximate {
#if defined(__CUDA_ARCH__)
  static APA_HOST_DEVICE float exp2(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
  static APA_HOST_DEVICE float log2(float x) {
    float y;
    asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
  }
#elif defined(__CUDACC__)  // the compiler's host pass, which runs no kernel
  static APA_HOST_DEVICE float exp2(float x) { return ::exp2f(x); }
  static APA_HOST_DEVICE float log2(float x) { return ::log2f(x); }
#else  // kernels run on a CPU: the test defines both, with the errors above
  static float exp2(float x);
  static float log2(float x);
#endif
};

using DeviceMath = GuardedMath<Approximate>;

// The scalar functions a kernel is templated on.
template <Kind kKind, Regime kRegime>
struct OneRegime {
  static __device__ __forceinline__ float at(float z, const Coefficients<float>& c) {
    return kKind == Kind::Gate ? gate<DeviceMath, kRegime>(z, c) : unit<DeviceMath, kRegime>(z, c);
  }
};

template <Kind kKind>
struct AnyRegime {
  static __device__ __forceinline__ float at(float z, const Coefficients<float>& c) {
    return kKind == Kind::Gate ? gate<DeviceMath>(z, c) : unit<DeviceMath>(z, c);
  }
};

}  // namespace apa

#endif  // APA_TENSORRT_DEVICE_MATH_CUH
