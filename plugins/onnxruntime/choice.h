// Which kernel runs a layer: by processor, by parameters, and by what the user says.
#ifndef APA_CHOICE_H
#define APA_CHOICE_H

#include <memory>
#include <string>

#include "table.h"

namespace apa {

// Best: Pw where it is within its bound (of half types: and its edge is out of the way), else Acc, else Exact.
enum class Wanted { Best, Exact, Acc, Pw };

// "exact", "acc", "pw", or "" for Best. Throws std::invalid_argument, which names `source`.
Wanted wanted_kernel(const std::string& name, const char* source);

struct Choice {
  Wanted wanted = Wanted::Best;
  Instructions instructions = Instructions::None;
  bool operator==(const Choice& o) const { return wanted == o.wanted && instructions == o.instructions; }
};

// Whether float32 results below 2^-126 become 0: not where the formula itself was asked for.
inline bool flushes(const Choice& choice) { return choice.wanted != Wanted::Exact; }

// This processor's, bounded by APA_MAX_ISA (avx512, avx2, none), and what APA_KERNEL wants.
// Throws std::invalid_argument for another word in either.
Choice choice_of_environment();

// One lambda and kappa, ready to run on contiguous elements. A copy shares its table.
class Row {
 public:
  Row(double lambda, double kappa, Kind kind, Element element, const Choice& choice);

  // `n` float32 elements, x == y allowed, any alignment; for half types as well, at their accuracy.
  void run(const float* x, float* y, size_t n) const {
    if (real_) return real_(x, y, n, *table_);
    exact_row(kind_, x, y, n, exact_);
  }
  // The same on elements of the layer's own type; false where there is no such kernel.
  bool run_element(const void* x, void* y, size_t n) const {
    if (element_) element_(x, y, n, *table_);
    return element_ != nullptr;
  }
  const Coefficients<float>& exact() const { return exact_; }
  bool has_table() const { return table_ != nullptr; }
  const char* kernel() const { return !table_ ? "exact" : table_->mode == Mode::Acc ? "acc" : "pw"; }

 private:
  Kind kind_;
  Coefficients<float> exact_;
  std::shared_ptr<const Table> table_;
  TableRow real_ = nullptr, element_ = nullptr;
};

}  // namespace apa

#endif  // APA_CHOICE_H
