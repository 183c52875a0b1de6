// The loop of the table kernels, written once. Included by a file of one instruction set, inside its target
// region; `Simd` holds that set's primitives and keeps the instantiations of the files apart.
// No include guard is missed: each translation unit includes this once.
namespace apa {
namespace {

// The exact kernel's answer in the lanes beyond the table's edge: rare, so scalar and out of line.
template <class Simd, Kind kKind>
__attribute__((noinline, cold)) typename Simd::V beyond_edge(typename Simd::V z, typename Simd::V found,
                                                             const Table& t) {
  alignas(64) float in[Simd::kWidth], kept[Simd::kWidth], out[Simd::kWidth];
  Simd::store(in, z);
  Simd::store(kept, found);
  exact_row(kKind, in, out, Simd::kWidth, t.exact);
  for (int i = 0; i < Simd::kWidth; i++)
    if (as_float(as_bits(in[i]) ^ t.flip) < t.edge) kept[i] = out[i];
  return Simd::load(kept);
}

template <class Simd, int kDegree, Mode kMode, Kind kKind>
struct Evaluation {
  using V = typename Simd::V;
  const Table& t;
  const typename Simd::template Lookup<kDegree> lookup;
  const V scale, shift, low, high, edge, flip;

  explicit Evaluation(const Table& table)
      : t(table), lookup(table), scale(Simd::all(t.scale)), shift(Simd::all(t.shift)), low(Simd::all(t.low)),
        high(Simd::all(t.high)), edge(Simd::all(t.edge)), flip(Simd::all(as_float(t.flip))) {}

  // The operand order of min and max lets NaN through.
  APA_HOST_DEVICE V operator()(V z) const {
    const V bounded = Simd::max(low, Simd::min(high, z));
    const V shifted = Simd::fma(bounded, scale, shift);
    const V f = Simd::fms(bounded, scale, Simd::sub(shifted, shift));
    const V q = lookup(shifted, f);
    const V y = kKind == Kind::Gate ? Simd::all(1.0f) : z;
    const V found = kMode == Mode::Pw ? (kKind == Kind::Gate ? q : Simd::mul(y, q)) : Simd::times_exp2(y, q);
    if (__builtin_expect(Simd::any_below(Simd::flipped(z, flip), edge), 0))
      return beyond_edge<Simd, kKind>(z, found, t);
    return found;
  }
};

template <class Simd, int kDegree, Mode kMode, Kind kKind, class T>
void table_row(const void* from, void* to, size_t n, const Table& table) {
  const Evaluation<Simd, kDegree, kMode, kKind> evaluate(table);
  const char* x = static_cast<const char*>(from);
  char* y = static_cast<char*>(to);
  constexpr size_t kStep = Simd::kWidth * sizeof(T);
  size_t bytes = n * sizeof(T);
  for (; bytes >= kStep; bytes -= kStep, x += kStep, y += kStep) Simd::store_as(T{}, y, evaluate(Simd::load_as(T{}, x)));
  if (bytes == 0) return;
  alignas(64) char rest[kStep] = {};
  std::memcpy(rest, x, bytes);
  Simd::store_as(T{}, rest, evaluate(Simd::load_as(T{}, rest)));
  std::memcpy(y, rest, bytes);
}

template <class Simd, int kDegree, class T>
constexpr TableKernels kernels(int segments) {
  return {segments,
          kDegree,
          Simd::kBySegment,
          {{table_row<Simd, kDegree, Mode::Pw, Kind::Gate, float>, table_row<Simd, kDegree, Mode::Pw, Kind::Unit, float>},
           {table_row<Simd, kDegree, Mode::Acc, Kind::Gate, float>, table_row<Simd, kDegree, Mode::Acc, Kind::Unit, float>}},
          {{table_row<Simd, kDegree, Mode::Pw, Kind::Gate, T>, table_row<Simd, kDegree, Mode::Pw, Kind::Unit, T>},
           {table_row<Simd, kDegree, Mode::Acc, Kind::Gate, T>, table_row<Simd, kDegree, Mode::Acc, Kind::Unit, T>}}};
}

}  // namespace
}  // namespace apa
