// Layers and kernels of the CPU library, free of ONNX Runtime: shapes, types, tails, alignment, threads,
// refusals. Exits 1 where one is wrong. With a file name, writes what the float32 formula gives for fixed inputs,
// and with the name of an instruction set behind it what its tables give, so that builds can be compared.
#include <sys/mman.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "layer.h"
#include "maths_check.h"
#include "ort_choices.h"

namespace {

using namespace apa;

constexpr float kInputs[] = {-0.0f, 1.5f, -3.25f, 80, -80, 1e-40f, 3e38f, 0.7f, -0.1f, 12, -6.5f, 2e-3f};
constexpr double kLambdas[] = {0, 1e-8, 0.2, 0.5, 3, 0.01, 1};
constexpr double kKappas[] = {1.25, -0.75, 2.5, 0.5, 1, -1.5, 0, 3, 0.25};

float input(size_t i) { return kInputs[i % 12] * (1 + static_cast<float>(i % 97) / 128); }

std::vector<double> some(const double* values, size_t count, size_t n) {
  std::vector<double> list;
  for (size_t i = 0; i < n; i++) list.push_back(values[i % count]);
  return list;
}

Attributes attributes(size_t lambdas, size_t kappas, int64_t axis = 1, int64_t block = 1) {
  return {some(kLambdas, 7, lambdas), some(kKappas, 9, kappas), axis, block};
}

double read(const float& v) { return v; }
double read(const double& v) { return v; }
double read(const Half& v) { return widened(v); }
double read(const Bfloat16& v) { return widened(v); }

void write(float& to, float v) { to = v; }
void write(double& to, float v) { to = v; }
void write(Half& to, float v) { to = narrowed_half(v); }
void write(Bfloat16& to, float v) { to = narrowed_bfloat16(v); }

// Bit for bit, but for the sign and payload of a NaN, which no one promises.
template <class T>
bool alike(const T* a, const T* b, size_t n) {
  for (size_t i = 0; i < n; i++) {
    T left, right;  // the elements may lie at odd addresses
    std::memcpy(&left, reinterpret_cast<const unsigned char*>(a) + i * sizeof(T), sizeof(T));
    std::memcpy(&right, reinterpret_cast<const unsigned char*>(b) + i * sizeof(T), sizeof(T));
    if (!check::same(read(left), read(right))) return false;
  }
  return true;
}

// --- Tails and alignment: a result depends on its input alone, never on where it lies.

constexpr size_t kLongest = 65, kGuard = 64;

// `n` elements at `byte` bytes past an aligned address, with guards on both sides that must stay.
template <class T>
struct Placed {
  explicit Placed(size_t byte, size_t n) : memory((n + 1) * sizeof(T) + 2 * kGuard + 64, 0x5a) {
    const uintptr_t start = reinterpret_cast<uintptr_t>(memory.data()) + kGuard;
    first = (start + 63) / 64 * 64 - reinterpret_cast<uintptr_t>(memory.data()) + byte;
    size = n * sizeof(T);
  }
  T* data() { return reinterpret_cast<T*>(memory.data() + first); }
  bool guarded() const {
    for (size_t i = 0; i < memory.size(); i++)
      if ((i < first || i >= first + size) && memory[i] != 0x5a) return false;
    return true;
  }
  std::vector<unsigned char> memory;
  size_t first, size;
};

// Where undefined behaviour is watched, pointers keep the alignment of their type; else they need none.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kAligned = true;
#else
constexpr bool kAligned = false;
#endif

template <class In, class Out, class Kernel>
void placement(const char* what, const std::vector<In>& inputs, Kernel kernel) {
  constexpr size_t kIn = kAligned ? sizeof(In) : 3, kOut = kAligned ? sizeof(Out) : 3;
  std::vector<Out> wanted(kLongest);
  kernel(inputs.data(), wanted.data(), kLongest);
  for (size_t n = 0; n <= kLongest; n++)
    for (size_t i = 0; i < 64 / kIn; i++) {
      const size_t byte = i * kIn;
      Placed<In> x(byte, n);
      Placed<Out> y(i * 5 % 16 * kOut, n), same(byte, n);
      std::memcpy(x.data(), inputs.data(), n * sizeof(In));
      kernel(x.data(), y.data(), n);
      const double at = static_cast<double>(byte), length = static_cast<double>(n);
      check::that(alike(y.data(), wanted.data(), n), what, 0, length, at, 0, 0);
      check::that(x.guarded() && y.guarded(), "writes outside its output", 0, length, at, 0, 0);
      if (sizeof(In) != sizeof(Out)) continue;
      std::memcpy(same.data(), inputs.data(), n * sizeof(In));
      kernel(reinterpret_cast<const In*>(same.data()), same.data(), n);
      check::that(alike(same.data(), wanted.data(), n), "in place", 0, length, at, 0, 0);
    }
}

template <class T>
void placement_of_own(const char* what, const std::vector<T>& inputs, const Row& row) {
  placement<T, T>(what, inputs, [&](const T* x, T* y, size_t n) {
    check::that(row.run_element(x, y, n), "no kernel of its own", 0, 0, 0, 0, 0);
  });
}

void placements() {
  std::vector<float> z(kLongest), near(kLongest);
  std::vector<Half> half(kLongest);
  std::vector<Bfloat16> brain(kLongest);
  for (size_t i = 0; i < kLongest; i++) {
    z[i] = input(i);
    half[i] = narrowed_half(z[i]);
    brain[i] = narrowed_bfloat16(z[i]);
  }
  for (const Choice& choice : runnable_choices())
    for (Kind kind : {Kind::Gate, Kind::Unit})
      for (double lambda : {0.0, 0.1, 2.0}) {
        const Row row(lambda, 1.1, kind, Element::Float32, choice);
        placement<float, float>("a row's place", z,
                                [&](const float* x, float* y, size_t n) { row.run(x, y, n); });
        if (choice.instructions == Instructions::None) continue;
        placement_of_own<Half>("a float16 row's place", half, Row(lambda, 1.1, kind, Element::Float16, choice));
        placement_of_own<Bfloat16>("a bfloat16 row's place", brain, Row(lambda, 1.1, kind, Element::Bfloat16, choice));
      }
  std::vector<float> fields[6];
  std::vector<int32_t> large(kLongest);
  for (auto& f : fields) f.resize(kLongest);
  for (size_t i = 0; i < kLongest; i++) {
    const auto c = coefficients<float>(kLambdas[i % 7], kKappas[i % 9]);
    const float values[6] = {c.slope, c.slope_low, c.offset, c.lambda, c.rate, c.rate_low};
    for (size_t f = 0; f < 6; f++) fields[f][i] = values[f];
    large[i] = c.regime == Regime::Large;
  }
  const Lanes lanes{fields[0].data(), fields[1].data(), fields[2].data(), fields[3].data(),
                    fields[4].data(), fields[5].data(), large.data()};
  for (Kind kind : {Kind::Gate, Kind::Unit})
    placement<float, float>("a lane's place", z,
                            [&](const float* x, float* y, size_t n) { exact_lanes(kind, x, y, n, lanes); });
  placement<Half, float>("widen", half, [](const Half* x, float* y, size_t n) { widen(x, y, n); });
  placement<Bfloat16, float>("widen", brain,
                             [](const Bfloat16* x, float* y, size_t n) { widen(x, y, n); });
  placement<float, Half>("narrow", z, [](const float* x, Half* y, size_t n) { narrow(x, y, n); });
  placement<float, Bfloat16>("narrow", z,
                             [](const float* x, Bfloat16* y, size_t n) { narrow(x, y, n); });
}

// --- Shapes: which parameters belong to which element.

struct Shape {
  const char* what;
  std::vector<int64_t> dims;
  size_t lambdas, kappas;
  int64_t axis, block;
};

const Shape kShapes[] = {
    {"a scalar", {}, 1, 1, 1, 1},
    {"a vector", {1000}, 1, 1, 1, 1},
    {"nothing", {2, 0, 5}, 1, 1, 1, 1},
    {"no rows", {0, 3, 5}, 3, 3, 1, 1},
    {"an image", {2, 7, 3, 5}, 7, 7, 1, 1},
    {"lambda alone", {2, 7, 30}, 7, 1, 1, 1},
    {"kappa alone", {2, 9, 30}, 1, 9, 1, 1},
    {"rows of features", {5, 9}, 9, 9, 1, 1},
    {"the last axis", {2, 3, 4, 5}, 5, 5, -1, 1},
    {"a long last axis", {3, 200}, 200, 200, -1, 1},
    {"many pixels", {170, 19}, 19, 19, -1, 1},
    {"the first axis", {6, 50}, 6, 6, 0, 1},
    {"a length of 1 after it", {2, 10, 1, 1}, 10, 10, 1, 1},
    {"long channels", {1, 2, 3000}, 2, 2, 1, 1},
    {"six axes", {2, 1, 3, 2, 4, 2}, 4, 4, -2, 1},
    {"blocks of 4", {2, 8, 3, 5}, 8, 8, 1, 4},
    {"blocks of 16", {1, 32, 7, 3}, 32, 1, 1, 16},
    {"blocks, scalar", {1, 32, 7, 3}, 1, 1, 1, 16},
};

// The channel of element `i`, found by dividing the index apart.
size_t channel(const Shape& s, size_t i) {
  const size_t channels = std::max(s.lambdas, s.kappas), rank = s.dims.size();
  if (channels == 1) return 0;
  size_t inner = 1;
  for (size_t d = static_cast<size_t>(s.axis < 0 ? s.axis + static_cast<int64_t>(rank) : s.axis) + 1; d < rank; d++)
    inner *= static_cast<size_t>(s.dims[d]);
  const size_t block = static_cast<size_t>(s.block);
  if (block == 1) return i / inner % channels;
  return i / (inner * block) % (channels / block) * block + i % block;
}

// Half a last place of the type and the kernel's 5 * (2 + L) float ulp, or what `pw` allows of float32: enough to tell
// channels apart.
double bound(Element element, double truth, double log2_gate, bool pw) {
  if (element == Element::Float32 && pw) return 0x1p-22 * std::fmax(1, std::abs(truth));
  const double small = element == Element::Float16   ? check::ulp(truth, 11, -24)
                       : element == Element::Bfloat16 ? check::ulp(truth, 8, -133)
                                                      : 0;
  return small + 5 * (2 + std::fmin(400, -log2_gate)) * check::float_ulp(truth);
}

// The same few inputs meet every kernel; where an emulator has no wide numbers, this is most of the time.
double known_log2_gate(double z, double lambda, double kappa) {
  static std::map<std::array<double, 3>, double> known;
  const auto [at, is_new] = known.try_emplace({z, lambda, kappa}, 0);
  if (is_new) at->second = static_cast<double>(check::log2_gate(z, lambda, kappa));
  return at->second;
}

template <class T>
void shape(const Shape& s, Kind kind, Element element, const Choice& choice) {
  const Attributes p = attributes(s.lambdas, s.kappas, s.axis, s.block);
  const Layer layer(kind, element, p, choice);
  layer.check_shape(s.dims.data(), s.dims.size());
  const Geometry geometry = layer.geometry_of(s.dims.data(), s.dims.size());
  const size_t n = geometry.total;
  std::vector<T> x(n), y(n);  // exactly as long as the tensor: a sanitizer sees one element more
  for (size_t i = 0; i < n; i++) write(x[i], input(i));
  // In uneven pieces, as several threads would have them.
  for (size_t begin = 0; begin < n; begin += 701)
    layer.run(x.data(), y.data(), geometry, begin, std::min(n, begin + 701));
  for (size_t i = 0; i < n; i++) {
    const size_t c = channel(s, i);
    const double lambda = p.lambda[s.lambdas == 1 ? 0 : c], kappa = p.kappa[s.kappas == 1 ? 0 : c], z = read(x[i]);
    const double log2_gate = known_log2_gate(z, lambda, kappa);
    const double truth = std::exp2(log2_gate) * (kind == Kind::Gate ? 1 : z);
    if (std::isinf(z) || (element == Element::Float16 && std::abs(truth) >= 65504)) continue;
    const double error = std::abs(read(y[i]) - truth);
    if (element == Element::Float32 && flushes(choice) && std::abs(truth) < 0x1p-126) {
      check::that(read(y[i]) == 0 && std::signbit(read(y[i])) == std::signbit(truth), "subnormal", z, lambda, kappa,
                  read(y[i]), truth);
      continue;
    }
    check::that(error <= bound(element, truth, log2_gate, choice.wanted == Wanted::Pw), s.what, z, lambda, kappa, read(y[i]), truth);
  }
  layer.run(x.data(), x.data(), geometry, 0, n);
  check::that(alike(x.data(), y.data(), n), s.what, 0, 0, 0, 1, 0);
}

void shapes() {
  for (const Choice& choice : runnable_choices())
    for (const Shape& s : kShapes)
      for (Kind kind : {Kind::Gate, Kind::Unit}) {
        shape<float>(s, kind, Element::Float32, choice);
        shape<Half>(s, kind, Element::Float16, choice);
        shape<Bfloat16>(s, kind, Element::Bfloat16, choice);
        if (choice.wanted == Wanted::Exact) shape<double>(s, kind, Element::Float64, choice);
      }
}

// --- Sizes beyond 32 bits: address space without memory behind it, but for the end that is computed.

void long_tensors() {
  const size_t inner = (size_t{1} << 32) + 100, n = 2 * inner, count = 150;
  const int64_t dims[] = {1, 2, static_cast<int64_t>(inner)};
  const Layer layer(Kind::Gate, Element::Float16, {{1}, {1, -1}});
  const Geometry geometry = layer.geometry_of(dims, 3);
  void* memory = mmap(nullptr, n * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) return std::printf("no address space for long tensors\n"), void(check::failures++);
  Half* x = static_cast<Half*>(memory);
  for (size_t i = n - count; i < n; i++) x[i] = narrowed_half(1);
  for (size_t i = inner - count; i < inner + count; i++) x[i] = narrowed_half(1);
  layer.run(x, x, geometry, inner - count, inner + count);  // across the border of the channels
  layer.run(x, x, geometry, n - count, n);
  const double up = 1 / (1 + std::exp(-1.0)), down = 1 - up;
  for (size_t i : {inner - count, inner - 1, inner, inner + count - 1, n - count, n - 1}) {
    const double wanted = i < inner ? up : down;
    check::that(std::abs(read(x[i]) - wanted) < 1e-3, "beyond 2^32", static_cast<double>(i), 0, 0, read(x[i]), wanted);
  }
  munmap(memory, n * 2);
}

// --- Refusals.

struct Refused {
  const char* says;
  Attributes attributes;
  std::vector<int64_t> dims;
};

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const Refused kRefused[] = {
    {"lambda[1] is nan", {{0.5, kNan}, {1}}, {1, 2}},
    {"lambda[0] is inf", {{kInf}, {1}}, {1}},
    {"lambda[0] is -0.5", {{-0.5}, {1}}, {1}},
    {"kappa[0] is nan", {{1}, {kNan}}, {1}},
    {"kappa[2] is -inf", {{1}, {1, 1, -kInf}}, {1, 3}},
    {"lambda holds no float", {{}, {1}}, {1}},
    {"kappa holds no float", {{1}, {}}, {1}},
    {"lambda has 2 values and kappa 3", {{1, 1}, {1, 1, 1}}, {1, 2}},
    {"2 parameters for 3 channels on axis 1", {{1, 1}, {1}}, {1, 3}},
    {"axis is 2; wanted one of the input's 2 axes", {{1, 1}, {1}, 2}, {1, 2}},
    {"axis is -3", {{1, 1}, {1}, -3}, {1, 2}},
    {"block is 0", {{1}, {1}, 1, 0}, {1}},
    {"wanted a multiple of the block, 4", {{1, 1}, {1, 1}, 1, 4}, {1, 2, 1, 1}},
};

void refusals() {
  for (const Refused& r : kRefused) {
    std::string said = "nothing";
    try {
      Layer(Kind::Unit, Element::Float32, r.attributes).check_shape(r.dims.data(), r.dims.size());
    } catch (const Refusal& refusal) {
      said = refusal.what();
    }
    const bool good = said.find(r.says) != std::string::npos;
    if (!good) std::printf("said '%s'\n", said.c_str());
    check::that(good, r.says, 0, 0, 0, 0, 0);
  }
}

// --- One layer, many threads.

void threads() {
  const int64_t dims[] = {4, 9, 500};
  for (Element element : {Element::Float32, Element::Float16}) {
    const Layer layer(Kind::Unit, element, attributes(9, 9), runnable_choices().back());
    const Geometry geometry = layer.geometry_of(dims, 3);
    std::vector<float> x(geometry.total), y(x), wanted(x);
    for (size_t i = 0; i < x.size(); i++) write(x[i], input(i));
    layer.run(x.data(), wanted.data(), geometry, 0, x.size());
    std::vector<std::thread> pool;
    for (size_t t = 0; t < 16; t++)
      pool.emplace_back([&, t] {
        const size_t share = (x.size() + 15) / 16;
        for (int repeat = 0; repeat < 20; repeat++)
          layer.run(x.data(), y.data(), geometry, std::min(x.size(), t * share), std::min(x.size(), (t + 1) * share));
      });
    for (auto& thread : pool) thread.join();
    check::that(alike(y.data(), wanted.data(), y.size()), "threads", 0, 0, 0, 0, 0);
  }
}

// --- Which kernel is chosen.

struct Chosen {
  const char* wanted;
  double lambda, kappa;
  const char *cubic, *avx512;  // whose segments are wider
};

const Chosen kChosen[] = {
    {"", 1, 1, "pw", "pw"},          {"", 0.5, -0.3, "pw", "pw"},
    {"", 0, 1, "pw", "pw"},          {"", 1e-8, 1, "pw", "pw"},
    {"", 0.1, 2, "pw", "pw"},        {"", 0.5, 0, "exact", "exact"},
    {"", 0.5, 1e-12, "exact", "exact"}, {"", 1e9, 1, "exact", "exact"},
    {"", 4, 1, "pw", "acc"},         {"", 0.5, 0.05, "pw", "acc"},
    {"", 20, 1, "acc", "acc"},       {"pw", 0, 1e-4, "acc", "acc"},
    {"acc", 1, 1, "acc", "acc"},     {"pw", 0, 1, "pw", "pw"},
    {"exact", 1, 1, "exact", "exact"}, {"pw", 1, 0, "exact", "exact"},
};

void choices() {
  for (Instructions set : runnable_sets())
    for (const Chosen& c : kChosen) {
      const Row row(c.lambda, c.kappa, Kind::Unit, Element::Float32, {wanted_kernel(c.wanted, "a test"), set});
      const char* tabled = set == Instructions::Avx512 ? c.avx512 : c.cubic;
      const bool good = !std::strcmp(row.kernel(), set == Instructions::None ? "exact" : tabled);
      if (!good) std::printf("'%s' chose %s\n", c.wanted, row.kernel());
      check::that(good, "choice", 0, c.lambda, c.kappa, 0, 0);
    }
}

// --- What builds for several instruction sets give.

int dump(const char* path) {
  std::FILE* file = std::fopen(path, "wb");
  if (!file) return 2;
  std::vector<float> x(200001), y(x);
  for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(static_cast<double>(i) / 10000 - 10);  // nothing to fuse
  for (double lambda : kLambdas)
    for (Kind kind : {Kind::Gate, Kind::Unit}) {
      exact_row(kind, x.data(), y.data(), x.size(), coefficients<float>(lambda, 1.1));
      std::fwrite(y.data(), sizeof(float), y.size(), file);
    }
  return std::fclose(file);
}

// One NaN for all: their signs and payloads differ from processor to processor.
template <class T>
void dump_tables(std::FILE* file, Element element, const std::vector<T>& x, Instructions set) {
  T nan;
  write(nan, static_cast<float>(kNan));
  std::vector<T> y(x.size());
  for (Wanted wanted : {Wanted::Acc, Wanted::Pw})
    for (size_t i = 0; i < 7; i++)
      for (Kind kind : {Kind::Gate, Kind::Unit}) {
        const Layer layer(kind, element, {{kLambdas[i]}, {kKappas[i]}}, {wanted, set});
        layer.run(x.data(), y.data(), {1, x.size(), 1, x.size()}, 0, x.size());
        for (T& value : y)
          if (std::isnan(read(value))) value = nan;
        std::fwrite(y.data(), sizeof(T), y.size(), file);
      }
}

int dump_tables(const char* path, Instructions set) {
  std::FILE* file = std::fopen(path, "wb");
  if (!file) return 2;
  std::vector<float> x(40001);
  for (size_t i = 0; i < x.size(); i++) x[i] = static_cast<float>(static_cast<double>(i) / 2000 - 10);
  for (uint64_t bits = 0; bits < uint64_t{1} << 32; bits += 40009) x.push_back(as_float(static_cast<uint32_t>(bits)));
  std::vector<Half> half;
  std::vector<Bfloat16> brain;
  for (uint32_t bits = 0; bits < 65536; bits++) {
    half.push_back({static_cast<uint16_t>(bits)});
    brain.push_back({static_cast<uint16_t>(bits)});
  }
  dump_tables(file, Element::Float32, x, set);
  dump_tables(file, Element::Float16, half, set);
  dump_tables(file, Element::Bfloat16, brain, set);
  return std::fclose(file);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 2) return dump(argv[1]);
  if (argc == 3) return dump_tables(argv[1], set_of(argv[2]));
  threads();
#ifndef __SANITIZE_THREAD__  // the rest has one thread
  placements();
  shapes();
  long_tensors();
  refusals();
  choices();
#endif
  std::printf("%d failures\n", check::failures);
  return check::failures != 0;
}
