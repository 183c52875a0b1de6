// Scalar and per-channel parameters in every memory format, rank, axis and type, and with int8 results of each: each
// element meets its own channel's parameters, padding is left or cleared as promised, nothing outside the tensor is
// touched.
#include <random>

#include "formats.h"
#include "kernels.h"
#include "trt_check.h"
#include "trt_reference.h"
#include "trt_tensor.h"

namespace {

using apa::Kind;
using tensors::Buffer;
using tensors::Tensor;

template <class To>
constexpr double kUnwritten = sizeof(To) == 1 ? 99 : -777;

// Small and large regimes side by side, no two neighbours alike.
apa::Parameters parameters(int64_t channels, int32_t axis) {
  apa::Parameters p;
  p.axis = axis;
  for (int64_t c = 0; c < channels; c++) {
    p.lambda.push_back(static_cast<float>(c % 3 == 0 ? 0.0 : c % 3 == 1 ? 0.4 + 0.01 * c : 0.2));
    p.kappa.push_back(static_cast<float>(0.5 + 0.13 * (c % 7)));
  }
  return p;
}

struct Case {
  Kind kind;
  Tensor tensor;
  int32_t axis;
  bool per_channel;
  int64_t shift_x, shift_y;
  int32_t processors;

  apa::Parameters parameters() const {
    return ::parameters(per_channel ? tensor.dims[static_cast<size_t>(axis)] : 1, axis);
  }
  std::string name() const {
    return tensor.name() + " axis " + std::to_string(axis) + (per_channel ? " per channel" : " scalar") +
           (kind == Kind::Gate ? " gate" : " unit") + " shifts " + std::to_string(shift_x) +
           std::to_string(shift_y);
  }
};

template <class T, class To>
struct Memory {
  Buffer<T> x;
  Buffer<To> y;
  std::vector<char> is_element;  // or else padding

  explicit Memory(const Case& c)
      : x(c.tensor.count(), c.shift_x),
        y(c.tensor.count(), c.shift_y),
        is_element(static_cast<size_t>(c.tensor.count()), 0) {
    std::mt19937 random(7);
    std::uniform_real_distribution<double> range(-6, 6);
    // A gate's padding is cleared whatever it held; the unit keeps a zero.
    const double padding = c.kind == Kind::Gate ? std::nan("") : 0.0;
    for (int64_t i = 0; i < c.tensor.count(); i++) {
      x[i] = reference::number<T>(padding);
      y[i] = reference::number<To>(kUnwritten<To>);
    }
    c.tensor.each([&](int64_t at, const tensors::Dims&) {
      x[at] = reference::number<T>(range(random));
      is_element[static_cast<size_t>(at)] = 1;
    });
  }
};

template <class T, class To>
cudaError_t ran(const Case& c, Memory<T, To>& memory) {
  const apa::Parameters p = c.parameters();
  const std::vector<apa::Channel> channels = apa::channels_of(p);
  apa::Job job{};
  job.kind = c.kind;
  job.element = reference::Numbers<T>::kElement;
  job.per_channel = p.channels() > 1;
  job.layout = apa::layout_of(c.tensor.dims, *apa::format_of(c.tensor.format.format), c.axis);
  job.processors = c.processors;
  job.scalar = apa::coefficients<float>(p.lambda_of(0), p.kappa_of(0));
  job.channels = channels.data();
  if (!check::expect(job.layout.count == c.tensor.count(), "%s: count %lld", c.name().c_str(),
                     static_cast<long long>(job.layout.count))) {
    return cudaErrorInvalidValue;
  }
  const void* x = memory.x.data();
  void* y = memory.y.data();
  return sizeof(To) == 1 ? apa::run(job, reference::kScale, x, y, nullptr) : apa::run(job, x, y, nullptr);
}

template <class T, class To>
void check_case(const Case& c) {
  Memory<T, To> memory(c);
  if (!check::expect(ran(c, memory) == cudaSuccess, "%s: not run", c.name().c_str())) return;
  const apa::Parameters p = c.parameters();
  int64_t wrong = 0;
  c.tensor.each([&](int64_t at, const tensors::Dims& index) {
    const size_t channel = c.per_channel ? static_cast<size_t>(index[static_cast<size_t>(c.axis)]) : 0;
    const double z = reference::value(memory.x[at]);
    const double exact = reference::activation(c.kind, z, p.lambda_of(channel), p.kappa_of(channel));
    wrong += !reference::is_result<To>(memory.y[at], exact, z);
  });
  for (int64_t i = 0; i < c.tensor.count(); i++) {
    wrong += !memory.is_element[static_cast<size_t>(i)] && reference::value(memory.y[i]) != 0;
  }
  check::expect(wrong == 0, "%s, %zu bytes to %zu: %lld elements wrong", c.name().c_str(), sizeof(T), sizeof(To),
                static_cast<long long>(wrong));
}

void check_types(const Case& c) {
  check_case<float, float>(c);
  check_case<__half, __half>(c);
  check_case<__nv_bfloat16, __nv_bfloat16>(c);
  check_case<float, int8_t>(c);
  check_case<__half, int8_t>(c);
  check_case<__nv_bfloat16, int8_t>(c);
}

void formats() {
  for (const auto& format : tensors::kFormats) {
    for (const auto& dims : tensors::kShapes) {
      const Tensor tensor{format, dims};
      if (!tensor.possible()) continue;
      for (Kind kind : {Kind::Gate, Kind::Unit}) {
        check_types({kind, tensor, 0, false, 0, 0, 1});
        for (size_t axis = 0; axis < dims.size(); axis++) {
          check_types({kind, tensor, static_cast<int32_t>(axis), true, 0, 0, 1});
        }
      }
    }
  }
}

// More elements than a grid on one processor has threads for: threads stride on, with and without the last lap.
void strides() {
  for (const auto& format : tensors::kFormats) {
    const Tensor tensor{format, {2, 50, 19, 23}};
    check_case<__half, __half>({Kind::Unit, tensor, 1, true, 0, 0, 1});
    check_case<float, float>({Kind::Gate, tensor, 1, true, 0, 0, 1});
    check_case<__half, int8_t>({Kind::Gate, tensor, 1, true, 0, 0, 1});
    check_case<float, int8_t>({Kind::Unit, tensor, 1, true, 0, 0, 1});
  }
  check_types({Kind::Unit, {tensors::kFormats[0], {40961}}, 0, false, 0, 0, 1});
}

// Runs of every length around the pack and the block, at every alignment.
void tails() {
  const int64_t lengths[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 255, 257, 2047, 2049, 4099};
  const int64_t shifts[][2] = {{0, 0}, {1, 0}, {0, 1}, {0, 4}, {1, 1}, {3, 3}};  // 4: half a pack of a half's codes
  for (int64_t length : lengths) {
    for (const auto& shift : shifts) {
      for (int32_t processors : {1, 3}) {
        const Tensor flat{tensors::kFormats[0], {length}}, rows{tensors::kFormats[0], {length / 6 + 1, 3, 2}};
        check_types({Kind::Unit, flat, 0, false, shift[0], shift[1], processors});
        check_types({Kind::Unit, flat, 0, true, shift[0], shift[1], processors});
        check_types({Kind::Gate, rows, 1, true, shift[0], shift[1], processors});
      }
    }
  }
}

void misaligned_formats() {
  for (const auto& format : tensors::kFormats) {
    const Tensor tensor{format, {2, 19, 3, 5}};
    for (Kind kind : {Kind::Gate, Kind::Unit}) check_types({kind, tensor, 1, true, 1, 1, 1});
  }
}

// No kernel starts, and nothing is read: the memory is empty.
void zero_elements() {
  for (const auto& format : tensors::kFormats) {
    for (const tensors::Dims& dims : {tensors::Dims{0, 3, 2, 2}, {2, 0, 4, 4}, {2, 3, 0, 1}, {2, 3, 4, 0}}) {
      for (int32_t axis = 0; axis < 4; axis++) {
        const apa::Layout layout = apa::layout_of(dims, *apa::format_of(format.format), axis);
        apa::Job job{};
        job.layout = layout;
        job.per_channel = true;
        for (cudaError_t error : {apa::run(job, nullptr, nullptr, nullptr),
                                  apa::run(job, reference::kScale, nullptr, nullptr, nullptr)}) {
          check::expect(layout.count == 0 && error == cudaSuccess, "%s: zero elements",
                        Tensor{format, dims}.name().c_str());
        }
      }
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"formats", formats},
                                 {"strides", strides},
                                 {"tails", tails},
                                 {"misaligned_formats", misaligned_formats},
                                 {"zero_elements", zero_elements}};
  return check::main_of(suites, argc, argv);
}
