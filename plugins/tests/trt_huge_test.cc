// Tensors of more than 2^34 elements, 2^32 packs: the first and the last blocks of the grid run, over memory of
// which only the touched pages exist. An index kept in 32 bits lands elsewhere.
#include <sys/mman.h>

#include <vector>

#include "cuda_cpu.h"
#include "kernels.h"
#include "trt_check.h"
#include "trt_reference.h"

namespace {

constexpr int64_t kCount = (int64_t{1} << 34) + 4099;
constexpr int64_t kEdge = 4096;  // elements at either end that are looked at

// Address space for kCount elements; a page exists once it is touched.
template <class T>
class Sparse {
 public:
  Sparse()
      : memory_(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  ~Sparse() { munmap(memory_, kBytes); }
  bool there() const { return memory_ != MAP_FAILED; }
  T* data() { return static_cast<T*>(memory_); }

 private:
  static constexpr size_t kBytes = static_cast<size_t>(kCount) * sizeof(T);
  void* memory_;
};

apa::Job job_of(const apa::Layout& layout, const std::vector<apa::Channel>& channels, bool per_channel) {
  apa::Job job{};
  job.kind = apa::Kind::Unit;
  job.element = apa::Element::Float32;
  job.per_channel = per_channel;
  job.layout = layout;
  job.processors = 1 << 24;  // as many as it takes for one pack a thread: the last blocks hold the last packs
  job.scalar = apa::coefficients<float>(0.5, 1.2);
  job.channels = channels.data();
  return job;
}

double exact_at(const apa::Walk& walk, bool per_channel, int64_t i, double z) {
  const int64_t channel = i / walk.span % walk.groups * walk.lanes + i % walk.lanes;
  return reference::activation(apa::Kind::Unit, z, 0.5, per_channel ? 0.5 + 0.1 * static_cast<double>(channel) : 1.2);
}

template <class To>
void check_ends(const char* name, const apa::Walk& walk, bool per_channel) {
  apa::Parameters p{{0.5f}, {}, 1};
  for (int32_t c = 0; c < walk.groups * walk.lanes; c++) p.kappa.push_back(0.5f + 0.1f * static_cast<float>(c));
  const auto channels = apa::channels_of(p);
  Sparse<float> x;
  Sparse<To> y;
  if (!check::expect(x.there() && y.there(), "no address space")) return;
  const auto z_at = [](int64_t i) { return static_cast<float>(i % 97) / 16 - 3; };
  for (int64_t i = 0; i < kEdge; i++) x.data()[i] = z_at(i), x.data()[kCount - 1 - i] = z_at(kCount - 1 - i);
  cuda_cpu::skipped = {kEdge / 1024, (kCount - kEdge) / 1024 - 4};
  const apa::Job job = job_of({kCount, walk, {1, 1, 1, 1}}, channels, per_channel);
  const cudaError_t error = sizeof(To) == 1 ? apa::run(job, reference::kScale, x.data(), y.data(), nullptr)
                                            : apa::run(job, x.data(), y.data(), nullptr);
  check::expect(error == cudaSuccess, "%s: not run", name);
  for (int64_t i = 0; i < kEdge; i++) {
    for (int64_t at : {i, kCount - 1 - i}) {
      const double z = z_at(at), exact = exact_at(walk, per_channel, at, z);
      if (!check::expect(reference::is_result<To>(y.data()[at], exact, z), "%s: element %lld is %g, exactly %g", name,
                         static_cast<long long>(at), reference::value(y.data()[at]), exact)) {
        return;
      }
    }
  }
}

void scalar() { check_ends<float>("scalar", {1, 1, 1}, false); }
void planes() { check_ends<float>("planes of 2^31 + 11", {(int64_t{1} << 31) + 11, 5, 1}, true); }
void spans() { check_ends<float>("spans of 2^31 + 12", {(int64_t{1} << 31) + 12, 5, 2}, true); }
void lanes() { check_ends<float>("five lanes", {1, 5, 1}, true); }
void codes() {
  check_ends<int8_t>("scalar codes", {1, 1, 1}, false);
  check_ends<int8_t>("codes in spans", {(int64_t{1} << 31) + 12, 5, 2}, true);
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {
      {"scalar", scalar}, {"planes", planes}, {"spans", spans}, {"lanes", lanes}, {"codes", codes}};
  return check::main_of(suites, argc, argv);
}
