// Kernels fitted to one layer: its lambda and kappa are constants of the model.
#ifndef APA_TABLES_H
#define APA_TABLES_H

#include <cstddef>
#include <memory>

#include "kernels.h"

namespace apa {

// Auto: the fastest whose error, checked as the layer is prepared, is within the exact kernel's bound.
enum class Choice { Auto, Exact, Acc, Pw };

// What the result is stored in: a half type needs less of its table.
enum class Precision { Single, Half };

class Table {
 public:
  virtual ~Table() = default;
  // Same conditions as exact_row.
  virtual void run(const float* x, float* y, size_t n) const = 0;
};

// A fitted table, or null where the exact kernel is to run: by choice, on this processor, or for these
// parameters.
std::unique_ptr<Table> fitted(Kind kind, Precision precision, double lambda, double kappa, Choice choice);

}  // namespace apa

#endif  // APA_TABLES_H
