// Runs a kernel of aarch64 so many times over the same 4096 elements, for aarch64.py to count its instructions.
//
//     aarch64 KERNEL LAMBDA TIMES     KERNEL: exact, acc or pw; inputs are normal, as behind a batch norm
#include <cstdlib>
#include <random>
#include <vector>

#include "layer.h"
#include "ort_choices.h"

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  using namespace apa;
  const Choice choice{wanted_kernel(argv[1], "KERNEL"), set_of("neon")};
  const Layer layer(Kind::Unit, Element::Float32, {{std::atof(argv[2])}, {1.1}}, choice);
  std::vector<float> x(4096), y(4096);
  std::mt19937 seeded(1);
  std::normal_distribution<float> normal;
  for (float& z : x) z = normal(seeded);
  for (int i = std::atoi(argv[3]); i > 0; i--) layer.run(x.data(), y.data(), {1, x.size(), 1, x.size()}, 0, x.size());
}
