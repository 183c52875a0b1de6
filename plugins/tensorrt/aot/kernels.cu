// The scalar kernels for TensorRT's ahead-of-time Python plugins, which keep a kernel as PTX inside the plan. Compiled
// to PTX once, where the package is built; an export takes one kernel out of the text and puts a layer's coefficients
// in place of the ones below, so that it needs no compiler. Arguments as TensorRT gives them: inputs, extra, outputs.
#include "kernels/scalar.cuh"

namespace apa {

// Not const, and with a name of C: the compiler may not fold what an export replaces.
extern "C" __constant__ Coefficients<float> apa_coefficients = {1, 2, 3, 4, 5, 6, Regime::Large, 7};

template <Kind kKind, Regime kRegime, class T>
__device__ __forceinline__ void apply_in_plan(const T* x, int32_t count, T* y) {
  const bool aligned = (reinterpret_cast<uintptr_t>(x) | reinterpret_cast<uintptr_t>(y)) % kPackBytes == 0;
  apply_all<OneRegime<kKind, kRegime>>(x, y, aligned ? count / Pack<T>::kSize : 0, count, apa_coefficients,
                                    Narrowed<T>{});
}

}  // namespace apa

#define APA_KERNEL(name, kind, regime, type)                                                        \
  extern "C" __global__ void __launch_bounds__(apa::kThreads) name(const type* x, int count, type* y) { \
    apa::apply_in_plan<apa::Kind::kind, apa::Regime::regime>(x, count, y);                          \
  }
#define APA_KERNELS(name, type)                         \
  APA_KERNEL(apa_gate_small_##name, Gate, Small, type)  \
  APA_KERNEL(apa_gate_large_##name, Gate, Large, type)  \
  APA_KERNEL(apa_unit_small_##name, Unit, Small, type)  \
  APA_KERNEL(apa_unit_large_##name, Unit, Large, type)

APA_KERNELS(float, float)
APA_KERNELS(half, __half)
APA_KERNELS(bfloat16, __nv_bfloat16)
