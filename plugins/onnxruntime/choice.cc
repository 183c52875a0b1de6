#include "choice.h"

#include <algorithm>
#include <cstdlib>
#include <stdexcept>

namespace apa {
namespace {

// What lies beyond the edge of a half type's Pw table is gathered and evaluated again. Behind a batch norm one element in thirty-five
// lies below -1.9; where the edge would come earlier, Acc is the better bargain.
constexpr double kLatestEdge = -1.9, kLatestEdgeIfWanted = -1;

Instructions of_processor() {
#if defined(__x86_64__) && defined(__GNUC__)
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                  __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
  const bool v4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return v3 ? (v4 ? Instructions::Avx512 : Instructions::Avx2) : Instructions::None;
#elif defined(__aarch64__)
  return Instructions::Neon;
#else
  return Instructions::None;
#endif
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

Instructions most_allowed(const std::string& name) {
  if (name.empty() || name == "avx512") return Instructions::Avx512;
  if (name == "avx2") return Instructions::Avx2;
  if (name == "none") return Instructions::None;
  throw std::invalid_argument("APA_MAX_ISA is '" + name + "'; wanted avx512, avx2 or none");
}

}  // namespace

Wanted wanted_kernel(const std::string& name, const char* source) {
  if (name.empty()) return Wanted::Best;
  if (name == "exact") return Wanted::Exact;
  if (name == "acc") return Wanted::Acc;
  if (name == "pw") return Wanted::Pw;
  throw std::invalid_argument(std::string(source) + " is '" + name + "'; wanted exact, acc or pw");
}

Choice choice_of_environment() {
  return {wanted_kernel(environment("APA_KERNEL"), "APA_KERNEL"),
          std::min(of_processor(), most_allowed(environment("APA_MAX_ISA")))};
}

Row::Row(double lambda, double kappa, Kind kind, Element element, const Choice& choice)
    : kind_(kind), exact_(coefficients<float>(lambda, kappa)) {
  const TableKernels* kernels = table_kernels(choice.instructions, element);
  if (!kernels || choice.wanted == Wanted::Exact) return;
  const bool real = element == Element::Float32, acc_only = choice.wanted == Wanted::Acc;
  const double latest = choice.wanted == Wanted::Pw ? kLatestEdgeIfWanted : kLatestEdge;
  const auto take = [&](std::shared_ptr<const Table> table) {
    table_ = std::move(table);
    real_ = kernels->of(table_->mode, kind, false);
    element_ = kernels->of(table_->mode, kind, true);
  };
  if (real) {
    const auto table = std::make_shared<Table>();
    const bool pw = !acc_only && fit_whole(*table, *kernels, kind, lambda, kappa);
    if (pw || fit(*table, *kernels, element, Mode::Acc, lambda, kappa, latest)) take(table);
    return;
  }
  struct Tables {
    Table pw, acc;
  };
  const auto tables = std::make_shared<Tables>();
  tables->pw.tail = &tables->acc;
  if (!fit(tables->acc, *kernels, element, Mode::Acc, lambda, kappa, latest)) return;
  const bool pw = !acc_only && fit(tables->pw, *kernels, element, Mode::Pw, lambda, kappa, latest);
  take({tables, pw ? &tables->pw : &tables->acc});
}

}  // namespace apa
