// Times the kernels beside memcpy, and the set-up of a layer. Called by kernels.py; prints one line of JSON.
//
//     kernels LAMBDA KAPPA MEBIBYTES THREADS ROUNDS CLOCK     CLOCK: wall or process
//
// Every round runs every kernel once, on the same memory; inputs are normal, as behind a batch norm.
#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "flush.h"
#include "ort_choices.h"

namespace {

using namespace apa;
using Run = std::function<void(const float*, float*, size_t)>;

// Threads that wait for a share of the work by spinning, as ONNX Runtime's own do.
class Pool {
 public:
  explicit Pool(size_t threads) : shares_(threads) {
    for (size_t i = 1; i < threads; i++) helpers_.emplace_back([this, i] { help(i); });
  }
  ~Pool() {
    stop_ = true;
    for (auto& helper : helpers_) helper.join();
  }
  void run(const Run& kernel, const float* x, float* y, size_t n) {
    kernel_ = &kernel, x_ = x, y_ = y, n_ = n, left_ = shares_ - 1;
    round_.fetch_add(1, std::memory_order_release);
    share(0);
    while (left_.load(std::memory_order_acquire)) {}
  }

 private:
  void share(size_t i) {
    const size_t begin = n_ * i / shares_, end = n_ * (i + 1) / shares_;
    (*kernel_)(x_ + begin, y_ + begin, end - begin);
  }
  void help(size_t i) {
    for (size_t seen = 0; !stop_;) {
      if (round_.load(std::memory_order_acquire) == seen) continue;
      seen++;
      share(i);
      left_.fetch_sub(1, std::memory_order_release);
    }
  }
  size_t shares_;
  const Run* kernel_ = nullptr;
  const float* x_ = nullptr;
  float* y_ = nullptr;
  size_t n_ = 0;
  std::atomic<size_t> round_{0}, left_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> helpers_;
};

struct Timed {
  std::string name;
  Run run;
  std::vector<double> nanoseconds;  // an element, one a round
};

clockid_t clock_of = CLOCK_MONOTONIC;

double nanoseconds() {
  timespec time;
  clock_gettime(clock_of, &time);
  return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

std::vector<Timed> contenders(double lambda, double kappa) {
  std::vector<Timed> all{{"memcpy", [](const float* x, float* y, size_t n) { std::memcpy(y, x, n * sizeof(float)); }, {}}};
  std::vector<Choice> choices = runnable_choices();
  choices.erase(choices.begin() + 1);  // Best without tables: the formula, which is there already
  choices.push_back({Wanted::Best, runnable_sets().back()});
  for (const Choice& choice : choices) {
    const Row row(lambda, kappa, Kind::Unit, Element::Float32, choice);
    const bool chosen = choice.wanted == Wanted::Best;
    all.push_back({(chosen ? "chosen " : "") + std::string(row.kernel()) + " " + name_of(choice.instructions),
                   [row](const float* x, float* y, size_t n) {
                     const FlushSubnormals flush(true);
                     row.run(x, y, n);
                   },
                   {}});
  }
  return all;
}

// Milliseconds that preparing one layer takes, the least of many: what else runs here only adds.
double set_up(double lambda, double kappa, const Choice& choice) {
  double least = 1e9;
  for (int i = 0; i < 200; i++) {
    const double start = nanoseconds();
    const Row row(lambda, kappa, Kind::Unit, Element::Float32, choice);
    least = std::min(least, (nanoseconds() - start) / 1e6);
  }
  return least;
}

void print(const Timed& timed) {
  std::printf("\"%s\": [", timed.name.c_str());
  for (size_t i = 0; i < timed.nanoseconds.size(); i++) std::printf("%s%.4f", i ? ", " : "", timed.nanoseconds[i]);
  std::printf("], ");
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 7) return 2;
  if (!std::strcmp(argv[6], "process")) clock_of = CLOCK_PROCESS_CPUTIME_ID;
  const double lambda = std::atof(argv[1]), kappa = std::atof(argv[2]);
  const size_t n = static_cast<size_t>(std::atof(argv[3]) * (1 << 18)), rounds = std::strtoull(argv[5], nullptr, 10);
  Pool pool(std::strtoull(argv[4], nullptr, 10));
  std::vector<float> x(n), y(n);
  std::mt19937 seeded(1);
  std::normal_distribution<float> normal;
  for (float& z : x) z = normal(seeded);
  std::vector<Timed> all = contenders(lambda, kappa);
  const size_t repeats = std::max<size_t>(1, (size_t{1} << 22) / n);
  for (size_t round = 0; round <= rounds; round++)
    for (Timed& timed : all) {
      const double start = nanoseconds();
      for (size_t i = 0; i < repeats; i++) pool.run(timed.run, x.data(), y.data(), n);
      if (round > 0) timed.nanoseconds.push_back((nanoseconds() - start) / static_cast<double>(repeats * n));  // the first warms up
    }
  std::printf("{");
  for (const Timed& timed : all) print(timed);
  const Instructions best = runnable_sets().back();
  std::printf("\"set-up, ms\": {\"pw\": %.4f, \"acc\": %.4f}}\n", set_up(lambda, kappa, {Wanted::Pw, best}),
              set_up(lambda, kappa, {Wanted::Acc, best}));
}
