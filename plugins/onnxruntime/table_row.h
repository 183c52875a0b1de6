// The loop of the table kernels, written once. Each file of an instruction set includes it behind its `Simd`, which
// holds that set's primitives and keeps the instantiations of the files apart.
namespace apa {
namespace {

APA_HOST_DEVICE void store_one(float* at, float y) { *at = y; }
APA_HOST_DEVICE void store_one(Half* at, float y) { *at = narrowed_half(y); }
APA_HOST_DEVICE void store_one(Bfloat16* at, float y) { *at = narrowed_bfloat16(y); }

template <class Simd, int kDegree, Mode kMode, Kind kKind, class T, bool kEdge>
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
    if constexpr (kMode == Mode::Pw) table_row<Simd, kDegree, Mode::Acc, kKind, float, true>(z_, out, count_, *table_.tail);
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

// Where there is no edge.
struct NothingBeyond {
  NothingBeyond(const Table&, const void*) {}
  template <class V>
  APA_HOST_DEVICE void add(V, unsigned, size_t) {}
  APA_HOST_DEVICE void answer() {}
};

// kEdge: whether there is one. float32's Pw has none: its first segment is 0, and what the polynomial of the next one
// puts below 0 is 0 as well.
template <class Simd, int kDegree, Mode kMode, Kind kKind, bool kEdge>
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
    const V found = lookup(shifted, f), q = kEdge ? found : Simd::max(Simd::all(0.0f), found);
    const V y = kKind == Kind::Gate ? Simd::all(1.0f) : z;
    return kMode == Mode::Pw ? (kKind == Kind::Gate ? q : Simd::mul(y, q)) : Simd::times_exp2(y, q);
  }
  // A bit for each lane of z that another kernel answers.
  APA_HOST_DEVICE unsigned beyond(V z) const { return kEdge ? Simd::below(Simd::flipped(z, flip), edge) : 0; }
};

template <class Simd, int kDegree, Mode kMode, Kind kKind, class T, bool kEdge>
void table_row(const void* from, void* to, size_t n, const Table& table) {
  const Evaluation<Simd, kDegree, kMode, kKind, kEdge> evaluate(table);
  const T* x = static_cast<const T*>(from);
  T* y = static_cast<T*>(to);
  std::conditional_t<kEdge, Beyond<Simd, kDegree, kMode, kKind, T>, NothingBeyond> others(table, y);
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

template <class Simd, int kDegree, class T, Mode kMode, Kind kKind, bool kEdge>
constexpr TableRow row = table_row<Simd, kDegree, kMode, kKind, T, kEdge>;

// Of float32, T is float, and Pw has no edge.
template <class Simd, int kDegree, class T>
constexpr TableKernels kernels(int fewest, int pw, int acc) {
  constexpr bool kEdge = !std::is_same_v<T, float>;
  return {fewest,
          pw,
          acc,
          kDegree,
          Simd::kBySegment,
          {{row<Simd, kDegree, float, Mode::Pw, Kind::Gate, kEdge>, row<Simd, kDegree, float, Mode::Pw, Kind::Unit, kEdge>},
           {row<Simd, kDegree, float, Mode::Acc, Kind::Gate, true>, row<Simd, kDegree, float, Mode::Acc, Kind::Unit, true>}},
          {{row<Simd, kDegree, T, Mode::Pw, Kind::Gate, kEdge>, row<Simd, kDegree, T, Mode::Pw, Kind::Unit, kEdge>},
           {row<Simd, kDegree, T, Mode::Acc, Kind::Gate, true>, row<Simd, kDegree, T, Mode::Acc, Kind::Unit, true>}}};
}

}  // namespace
}  // namespace apa
