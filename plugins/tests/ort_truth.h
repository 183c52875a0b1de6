// APA in float64, vectorised: the truth that the float32 kernels are held against.
#ifndef APA_ORT_TRUTH_H
#define APA_ORT_TRUTH_H

#include <cstddef>

namespace apa {

// gate[i] = APA(z[i]) and log2_gate[i] = log2 APA(z[i]) for finite z; relative error of the gate below
// 1e-15 * (2 + |log2 APA|), which is 2^-29 of a float32 ulp's share of the same bound.
void true_gate(const float* z, double* gate, double* log2_gate, size_t n, double lambda, double kappa);

}  // namespace apa

#endif  // APA_ORT_TRUTH_H
