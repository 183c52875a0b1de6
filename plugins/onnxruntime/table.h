// Fitted tables: a layer's lambda and kappa are constants, so its curve becomes a piecewise polynomial as the
// session is made. docs/kernels.md derives the errors.
//
//     Pw     the table holds APA(z) itself; taken only where the finished kernel was seen within its bound
//     Acc    the table holds log2 APA(z), and 2^x follows; within the relative bound for every lambda it is made for
//
// z falls into segment round(z*scale) + offset, and lies at f in [-1/2, 1/2] of it. Where a table ends while the
// gate has not, Acc asks the exact kernel, and Pw of half types an Acc table. Pw of float32 answers every z: its bound
// is absolute, and below the table the result is too small to count. So the contract of apa/math.h holds for every z.
#ifndef APA_TABLE_H
#define APA_TABLE_H

#include "kernels.h"

namespace apa {

enum class Mode { Pw, Acc };

// What a processor runs of what is built. None: no table kernel, the compiler's own vectors only.
enum class Instructions { None, Neon, Avx2, Avx512 };

struct alignas(64) Table {
  static constexpr int kRoom = 2048;  // floats: 512 segments of a cubic, 8 KiB
  float values[kRoom];
  float scale;         // segments a unit of z; negative where kappa is
  float shift;         // 1.5 * 2^23 + offset: adding it rounds to a segment, found in the low bits
  float low, high;     // z is bounded to these
  float edge;          // another answers where z < edge, or -z < edge for kappa < 0
  uint32_t flip;       // the sign bit for kappa < 0
  uint32_t mask;       // segments - 1
  Mode mode;
  Coefficients<float> exact;
  const Table* tail = nullptr;  // Pw of half types: Acc of the same curve, which answers beyond the edge
};

// `n` elements at x to y, in place or not, at any alignment.
using TableRow = void (*)(const void* x, void* y, size_t n, const Table& table);

// How the tables of one instruction set and number type are laid out, and what runs them.
struct TableKernels {
  int fewest, pw, acc, degree;  // segments: float32's Pw has from `fewest` to `pw`, as few as keep its bound
  bool by_segment;              // values[segment][power], else values[power][segment]
  TableRow real[2][2];          // [mode][kind]: float32 in and out
  TableRow element[2][2];       // the type itself
  TableRow of(Mode mode, Kind kind, bool own) const {
    return (own ? element : real)[static_cast<int>(mode)][static_cast<int>(kind)];
  }
};

const TableKernels& neon_kernels(Element element);
const TableKernels& avx2_kernels(Element element);
const TableKernels& avx512_kernels(Element element);

// Null where there is none: on another processor, and for float64.
const TableKernels* table_kernels(Instructions instructions, Element element);

// Fits `table`, but for float32's Pw. False where there is none within the contract: lambda, kappa or the curve's range
// is outside what the segments can follow, or (Pw) the finished kernel was seen to keep its bound only where kappa*z is
// above `latest_edge`.
bool fit(Table& table, const TableKernels& kernels, Element element, Mode mode, double lambda, double kappa,
         double latest_edge);

// Fits float32's Pw, which answers every z. False where the finished kernel of `kind` does not keep the absolute bound.
bool fit_whole(Table& table, const TableKernels& kernels, Kind kind, double lambda, double kappa);

}  // namespace apa

#endif  // APA_TABLE_H
