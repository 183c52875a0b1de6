// Every byte kernel that is built, against plain arithmetic in 64 bits: all codes, lengths in and beyond tails, any
// alignment, in place. Prints what fails; the argument "time" prints nanoseconds a code instead.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <random>
#include <vector>

#include "bytes.h"

namespace {

using apa::ByteKernels;
using Bytes = std::vector<uint8_t>;

std::mt19937 engine(1);
int failures = 0;

Bytes random_bytes(size_t n) {
  Bytes v(n);
  for (auto& b : v) b = static_cast<uint8_t>(engine());
  return v;
}

void expect(bool good, const ByteKernels& k, const char* what, size_t n, size_t at) {
  if (!good && failures++ < 20) std::printf("%s %s: n %zu, offset %zu\n", k.name, what, n, at);
}

uint8_t wanted_sum(const Bytes& table, int64_t a, int64_t b, int64_t fa, int64_t fb, int64_t c, int shift, uint8_t flip) {
  const int64_t code = ((a ^ flip) * fa + (b ^ flip) * fb + c) >> shift;
  return table[static_cast<size_t>(code < 0 ? 0 : code > 255 ? 255 : code)];
}

const size_t kLengths[] = {0, 1, 15, 16, 31, 32, 33, 63, 64, 65, 127, 128, 255, 256, 257, 513, 1003};

void check_lookup(const ByteKernels& k) {
  const Bytes table = random_bytes(256);
  for (size_t n : kLengths)
    for (size_t at : {0, 1, 7}) {
      Bytes x = random_bytes(n + at + 8), y(n + at + 8, 7);
      for (size_t i = 0; i < n && i < 256; i++) x[at + i] = static_cast<uint8_t>(i);  // all codes
      k.lookup(table.data(), x.data() + at, y.data() + at, n);
      bool good = true;
      for (size_t i = 0; i < y.size(); i++) good &= y[i] == (i >= at && i < at + n ? table[x[i]] : 7);
      expect(good, k, "lookup", n, at);
      k.lookup(table.data(), x.data() + at, x.data() + at, n);
      expect(std::equal(x.begin() + at, x.begin() + at + n, y.begin() + at), k, "lookup in place", n, at);
    }
}

struct Case {
  int fa, fb, zero, shift;
};
const Case kCases[] = {{16384, 16384, 0, 14}, {32767, 32767, 255, 14}, {9000, 12345, 130, 14}, {1, 32767, 3, 0},
                       {-32767, 20000, 77, 13}, {32767, 1, 255, 20}, {0, 0, 9, 20}, {5, 31000, 128, 18}};

void check_sum(const ByteKernels& k) {
  const Bytes table = random_bytes(256);
  for (const Case& c : kCases)
    for (uint8_t flip : {0x00, 0x80}) {
      const int32_t constant = ((2 * c.zero + 1) << c.shift >> 1) - c.fa * 100 - c.fb * 7;
      const apa::Sum sum{static_cast<int16_t>(c.fa), static_cast<int16_t>(c.fb), constant, c.shift, flip};
      for (size_t n : {size_t{65536}, size_t{0}, size_t{1}, size_t{31}, size_t{77}, size_t{513}}) {
        Bytes a(n), b(n), y(n + 8, 7);
        for (size_t i = 0; i < n; i++) a[i] = static_cast<uint8_t>(i), b[i] = static_cast<uint8_t>(i >> 8 ^ (n < 65536 ? i * 31 : 0));
        k.sum(table.data(), sum, a.data(), b.data(), y.data(), n);
        bool good = y[n] == 7;
        for (size_t i = 0; i < n; i++) good &= y[i] == wanted_sum(table, a[i], b[i], c.fa, c.fb, constant, c.shift, flip);
        expect(good, k, "sum", n, 0);
        k.sum(table.data(), sum, a.data(), b.data(), b.data(), n);
        expect(std::equal(b.begin(), b.end(), y.begin()), k, "sum in place", n, 0);
      }
    }
}

void check_channels(const ByteKernels& k) {
  const Bytes table = random_bytes(256);
  for (size_t blocks : {1, 3})
    for (size_t pixels : {0, 1, 5, 50})
      for (uint8_t flip : {0x00, 0x80}) {
        const size_t channels = blocks * std::max<size_t>(k.width, 16), n = channels * pixels;
        std::vector<int16_t> factors(2 * channels), plain(2 * channels);
        std::vector<int32_t> constants(channels), straight(channels);
        for (size_t c = 0; c < channels; c++) {
          const size_t to = apa::unpacked(c, k.width);
          for (size_t j : {0, 1}) factors[2 * to + j] = plain[2 * c + j] = static_cast<int16_t>(engine());
          constants[to] = straight[c] = static_cast<int32_t>(engine() % (1 << 22));
        }
        const Bytes a = random_bytes(n), b = random_bytes(n);
        Bytes y(n + 8, 7);
        k.channels(table.data(), {factors.data(), constants.data(), channels, 14, flip}, a.data(), b.data(), y.data(), pixels);
        bool good = y[n] == 7;
        for (size_t i = 0; i < n; i++) {
          const size_t c = i % channels;
          good &= y[i] == wanted_sum(table, a[i], b[i], plain[2 * c], plain[2 * c + 1], straight[c], 14, flip);
        }
        expect(good, k, "channels", n, blocks);
      }
}

template <class F>
double fastest(size_t n, F f) {
  double best = 1e9;
  for (int i = 0; i < 60; i++) {
    const auto start = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - start).count());
  }
  return best / static_cast<double>(n);
}

void time(const std::vector<const ByteKernels*>& all) {
  const Bytes table = random_bytes(256);
  const apa::Sum sum{9000, 12345, 700000, 14, 0};
  for (size_t n : {size_t{1} << 16, size_t{1} << 20, size_t{1} << 23}) {
    const Bytes a = random_bytes(n), b = random_bytes(n);
    Bytes y(n);
    std::printf("%zu memcpy %.3f\n", n, fastest(n, [&] { std::memcpy(y.data(), a.data(), n); }));
    for (const ByteKernels* k : all) {
      const double look = fastest(n, [&] { k->lookup(table.data(), a.data(), y.data(), n); });
      const double add = fastest(n, [&] { k->sum(table.data(), sum, a.data(), b.data(), y.data(), n); });
      std::printf("%zu %s lookup %.3f sum %.3f\n", n, k->name, look, add);
    }
  }
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<const ByteKernels*> all{&apa::scalar_byte_kernels()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) all.push_back(&apa::avx2_byte_kernels());
#ifdef APA_EMULATES_AVX512
  if (count < 2) all.push_back(&apa::vbmi_byte_kernels());
#else
  if (__builtin_cpu_supports("avx512vbmi")) all.push_back(&apa::vbmi_byte_kernels());
#endif
#elif defined(__aarch64__)
  all.push_back(&apa::neon_byte_kernels());
#endif
  if (count > 1 && !std::strcmp(arguments[1], "time")) return time(all), 0;
  for (const ByteKernels* k : all) check_lookup(*k), check_sum(*k), check_channels(*k);
  for (const ByteKernels* k : all) std::printf("%s checked\n", k->name);
  return failures ? 1 : 0;
}
