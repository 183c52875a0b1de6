// The loop of the table kernels, written once. Each file of an instruction set includes it behind its `Simd`, which
// holds that set's primitives and keeps the instantiations of the files apart.
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
  for (; bytes >= kStep; bytes -= kStep, x += kStep, y += kStep)
    Simd::store_as(T{}, y, evaluate(Simd::load_as(T{}, x)));
  if (bytes == 0) return;
  alignas(64) char rest[kStep] = {};
  std::memcpy(rest, x, bytes);
  Simd::store_as(T{}, rest, evaluate(Simd::load_as(T{}, rest)));
  std::memcpy(y, rest, bytes);
}

template <class Simd, int kDegree, class T, Mode kMode, Kind kKind>
constexpr TableRow row = table_row<Simd, kDegree, kMode, kKind, T>;

template <class Simd, int kDegree, class T>
constexpr TableKernels kernels(int segments) {
  return {segments,
          kDegree,
          Simd::kBySegment,
          {{row<Simd, kDegree, float, Mode::Pw, Kind::Gate>, row<Simd, kDegree, float, Mode::Pw, Kind::Unit>},
           {row<Simd, kDegree, float, Mode::Acc, Kind::Gate>, row<Simd, kDegree, float, Mode::Acc, Kind::Unit>}},
          {{row<Simd, kDegree, T, Mode::Pw, Kind::Gate>, row<Simd, kDegree, T, Mode::Pw, Kind::Unit>},
           {row<Simd, kDegree, T, Mode::Acc, Kind::Gate>, row<Simd, kDegree, T, Mode::Acc, Kind::Unit>}}};
}

}  // namespace
}  // namespace apa
