// The loop of the table kernels, written once. Each file of an instruction set includes it behind its `Simd`, which
// holds that set's primitives and keeps the instantiations of the files apart.
namespace apa {
namespace {

APA_HOST_DEVICE void store_one(float* at, float y) { *at = y; }
APA_HOST_DEVICE void store_one(Half* at, float y) { *at = narrowed_half(y); }
APA_HOST_DEVICE void store_one(Bfloat16* at, float y) { *at = narrowed_bfloat16(y); }

template <class Simd, int kDegree, Mode kMode, Kind kKind, class T>
void table_row(const void* from, void* to, size_t n, const Table& table);

// Elements beyond the table's edge. They are gathered, so that the next kernel answers many at once and none that
// the table has answered: a layer whose input is wide must not cost more than without a table.
template <class Simd, int kDegree, Mode kMode, Kind kKind, class T>
class Beyond {
 public:
  Beyond(const Table& t, T* y) : table_(t), y_(y) {}

  // `lanes`: a bit for each lane of z that lies beyond; z belongs to elements first, first+1 ...
  __attribute__((noinline)) void add(typename Simd::V z, unsigned lanes, size_t first) {
    alignas(64) float values[Simd::kWidth];
    Simd::store(values, z);
    for (; lanes != 0; lanes &= lanes - 1) {
      const unsigned lane = static_cast<unsigned>(__builtin_ctz(lanes));
      z_[count_] = values[lane];
      at_[count_++] = first + lane;
    }
    if (count_ > kRoom - Simd::kWidth) answer();
  }

  void answer() {
    float out[kRoom];
    if constexpr (kMode == Mode::Pw) table_row<Simd, kDegree, Mode::Acc, kKind, float>(z_, out, count_, *table_.tail);
    else exact_row(kKind, z_, out, count_, table_.exact);
    for (size_t i = 0; i < count_; i++) store_one(y_ + at_[i], out[i]);
    count_ = 0;
  }

 private:
  static constexpr size_t kRoom = 256;
  const Table& table_;
  T* const y_;
  size_t count_ = 0;
  float z_[kRoom];
  size_t at_[kRoom];
};

template <class Simd, int kDegree, Mode kMode, Kind kKind>
struct Evaluation {
  using V = typename Simd::V;
  const typename Simd::template Lookup<kDegree> lookup;
  const V scale, shift, low, high, edge, flip;

  explicit Evaluation(const Table& t)
      : lookup(t), scale(Simd::all(t.scale)), shift(Simd::all(t.shift)), low(Simd::all(t.low)),
        high(Simd::all(t.high)), edge(Simd::all(t.edge)), flip(Simd::all(as_float(t.flip))) {}

  // The operand order of min and max lets NaN through.
  APA_HOST_DEVICE V operator()(V z) const {
    const V bounded = Simd::max(low, Simd::min(high, z));
    const V shifted = Simd::fma(bounded, scale, shift);
    const V f = Simd::fms(bounded, scale, Simd::sub(shifted, shift));
    const V q = lookup(shifted, f);
    const V y = kKind == Kind::Gate ? Simd::all(1.0f) : z;
    return kMode == Mode::Pw ? (kKind == Kind::Gate ? q : Simd::mul(y, q)) : Simd::times_exp2(y, q);
  }
  APA_HOST_DEVICE unsigned beyond(V z) const { return Simd::below(Simd::flipped(z, flip), edge); }
};

template <class Simd, int kDegree, Mode kMode, Kind kKind, class T>
void table_row(const void* from, void* to, size_t n, const Table& table) {
  const Evaluation<Simd, kDegree, kMode, kKind> evaluate(table);
  const T* x = static_cast<const T*>(from);
  T* y = static_cast<T*>(to);
  Beyond<Simd, kDegree, kMode, kKind, T> others(table, y);
  constexpr size_t kWidth = Simd::kWidth;
  size_t i = 0;
#pragma GCC unroll 4
  for (; i + kWidth <= n; i += kWidth) {
    const typename Simd::V z = Simd::load_as(T{}, x + i);
    Simd::store_as(T{}, y + i, evaluate(z));
    if (const unsigned lanes = evaluate.beyond(z); __builtin_expect(lanes != 0, 0)) others.add(z, lanes, i);
  }
  if (i < n) {
    alignas(64) T rest[kWidth] = {};
    std::memcpy(rest, x + i, (n - i) * sizeof(T));
    const typename Simd::V z = Simd::load_as(T{}, rest);
    Simd::store_as(T{}, rest, evaluate(z));
    std::memcpy(y + i, rest, (n - i) * sizeof(T));
    others.add(z, evaluate.beyond(z) & ((1u << (n - i)) - 1), i);
  }
  others.answer();
}

template <class Simd, int kDegree, class T, Mode kMode, Kind kKind>
constexpr TableRow row = table_row<Simd, kDegree, kMode, kKind, T>;

template <class Simd, int kDegree, class T>
constexpr TableKernels kernels(int pw, int acc) {
  return {{pw, acc},
          kDegree,
          Simd::kBySegment,
          {{row<Simd, kDegree, float, Mode::Pw, Kind::Gate>, row<Simd, kDegree, float, Mode::Pw, Kind::Unit>},
           {row<Simd, kDegree, float, Mode::Acc, Kind::Gate>, row<Simd, kDegree, float, Mode::Acc, Kind::Unit>}},
          {{row<Simd, kDegree, T, Mode::Pw, Kind::Gate>, row<Simd, kDegree, T, Mode::Pw, Kind::Unit>},
           {row<Simd, kDegree, T, Mode::Acc, Kind::Gate>, row<Simd, kDegree, T, Mode::Acc, Kind::Unit>}}};
}

}  // namespace
}  // namespace apa
