// The built operators for ONNX Runtime's CUDA provider on a device, between a stand-in for ONNX Runtime: values of every
// kind and type, in place too, on streams of their own, recorded graphs, several threads.
//
//     APA_ORT_LIBRARY=libapa_ort_cuda.so ort_cuda_on_device_test [--small] [SUITE...]
#include <cmath>
#include <cstring>
#include <thread>

#include "ort_cuda_node.h"
#include "trt_device.h"

namespace {

using namespace host;
using device::facts;
using device::Graph;
using device::Memory;
using device::must;
using device::small;
using device::Stream;

constexpr int kReplays = 100;
const char* name_of(Kind kind) { return kind == Kind::Gate ? "APA" : "AGLU"; }

template <class T>
std::vector<T> numbers(const Case& c, int seed = 0) {
  std::vector<T> x;
  for (size_t i = 0; i < c.count(); i++)
    x.push_back(reference::number<T>(std::sin(static_cast<double>(i + 1) + seed * 7.0) * 6));
  return x;
}

std::string enqueued(Node& node, const Case& c, const Memory& x, const Memory& y, cudaStream_t stream) {
  OrtKernelContext context{{{c.dims}, x.data()}, {{}, y.data()}, stream};
  const std::string why = node.run(context);
  return why.empty() && context.output.info.dims != c.dims ? "another shape" : why;
}

template <class T>
bool equal(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <class T>
std::vector<T> ran(Node& node, const Case& c, const std::vector<T>& x, cudaStream_t stream, bool in_place = false) {
  const Memory source(x), other(x.size() * sizeof(T));
  const Memory& target = in_place ? source : other;
  const std::string why = enqueued(node, c, source, target, stream);
  check::expect(why.empty(), "not run: %s", why.c_str());
  return target.read<T>(stream);
}

template <class T>
void check_values(Kind kind, const Case& c, cudaStream_t stream) {
  Node node(operator_of<T>(kind), c.info());
  if (!check::expect(node.kernel != nullptr, "not created: %s", node.why.c_str())) return;
  const std::vector<T> x = numbers<T>(c), y = ran<T>(node, c, x, stream);
  long long wrong = 0;
  double worst = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double z = reference::value(x[i]), exact = c.exact(kind, z, c.channel_of(i)), got = reference::value(y[i]);
    wrong += !reference::close<T>(got, exact, z);
    worst = std::fmax(worst, reference::share_of_tolerance<T>(got, exact, z));
  }
  check::expect(wrong == 0, "%s of %zu bytes, rank %zu axis %d: %lld elements wrong, at worst %.3g of the bound",
                name_of(kind), sizeof(T), c.dims.size(), static_cast<int>(c.axis), wrong, worst);
  check::expect(equal(ran<T>(node, c, x, stream, true), y), "%s: other bits in place", name_of(kind));
}

const Case kScalar{{2, 16, 9, 9}, 1, false}, kChannels{{2, 5, 9, 9}, 1, true}, kLast{{3, 41, 5}, -1, true};

void values() {
  Stream stream;
  std::vector<Case> cases(std::begin(kCases), std::end(kCases));
  if (!small) cases.insert(cases.end(), {{{2, 5, 224, 224}, 1, true}, {{1, 2048, 7, 7}, 1, false}, {{4097, 5}, -1, true}});
  for (Kind kind : {Kind::Gate, Kind::Unit})
    for (const Case& c : cases) {
      check_values<float>(kind, c, stream.at);
      check_values<__half>(kind, c, stream.at);
      check_values<__nv_bfloat16>(kind, c, stream.at);
    }
}

// Recorded thread-locally, as ONNX Runtime does, while another thread makes a node of its own; replayed bit for bit,
// and on what the inputs hold then.
template <class T>
void check_recorded(const Case& c) {
  Stream stream;
  Node node(operator_of<T>(Kind::Unit), c.info());
  const std::vector<T> x = numbers<T>(c), other = numbers<T>(c, 1);
  const std::vector<T> wanted = ran<T>(node, c, x, stream.at), wanted_other = ran<T>(node, c, other, stream.at);
  Memory source(x), target(x.size() * sizeof(T));
  std::string why, beside;
  const Graph graph(stream.at, [&] {
    why = enqueued(node, c, source, target, stream.at);
    std::thread([&] { beside = Node(operator_of<float>(Kind::Gate), kChannels.info()).why; }).join();
  });
  check::expect(why.empty() && beside.empty(), "recording: %s; beside it: %s", why.c_str(), beside.c_str());
  int differ = 0;
  for (int i = 0; i < kReplays; i++) {
    target.clear(stream.at);
    graph.launch(stream.at);
    differ += !equal(target.read<T>(stream.at), wanted);
  }
  check::expect(differ == 0, "%d of %d replays differ", differ, kReplays);
  source.write(other);
  graph.launch(stream.at);
  check::expect(equal(target.read<T>(stream.at), wanted_other), "a replay on other inputs");
}

void recorded() {
  check_recorded<__half>(kScalar);
  check_recorded<float>(kChannels);
  check_recorded<__half>(kLast);
}

// One node of one session, run by two threads at once with shapes that change: a session allows it.
void threads() {
  const Case large{{3, 5, 21, 17}, 1, true};
  OrtKernelInfo open = kChannels.info();
  open.shape.clear();
  Node node(operator_of<float>(Kind::Unit), open);
  Stream before;
  const std::vector<float> x = numbers<float>(kChannels), x_large = numbers<float>(large);
  const std::vector<float> y = ran<float>(node, kChannels, x, before.at), y_large = ran<float>(node, large, x_large, before.at);
  int wrong[2] = {0, 0};
  const auto work = [&](int number) {
    Stream stream;
    const Memory in(x), out(x.size() * sizeof(float)), in_large(x_large), out_large(x_large.size() * sizeof(float));
    for (int round = 0; round < (small ? 5 : 200); round++) {
      const bool is_large = (round + number) % 2;
      const Memory& target = is_large ? out_large : out;
      const std::string why = enqueued(node, is_large ? large : kChannels, is_large ? in_large : in, target, stream.at);
      wrong[number] += !why.empty() || !equal(target.read<float>(stream.at), is_large ? y_large : y);
    }
  };
  std::thread one(work, 0), two(work, 1);
  one.join(), two.join();
  check::expect(wrong[0] + wrong[1] == 0, "%d and %d runs of two threads are wrong", wrong[0], wrong[1]);
}

// What a node costs the processor: medians in microseconds, not judged.
void host_time() {
  Stream stream;
  for (bool channels : {false, true}) {
    const Case c{{2, 5, 64, 64}, 1, channels};
    Node node(operator_of<__half>(Kind::Unit), c.info());
    const Memory x(numbers<__half>(c)), y(c.count() * sizeof(__half));
    int failed = 0;
    const double launch = device::microseconds([&](int) { failed += !enqueued(node, c, x, y, stream.at).empty(); });
    must(cudaStreamSynchronize(stream.at), "the kernel");
    check::expect(failed == 0, "%d launches failed", failed);
    char text[64];
    std::snprintf(text, sizeof text, "%s\"float16%s\": {\"run\": %.2f}", channels ? ", " : "", channels ? ", 5 channels" : "", launch);
    facts += text;
  }
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"values", values}, {"recorded", recorded}, {"threads", threads}, {"host", host_time}};
  const int code = device::main_of(suites, argc, argv);
  const int kept = statuses + types + shapes + allocators;
  if (kept) std::printf("FAIL %d things of ONNX Runtime's are not given back\n", kept);
  return code || kept;
}
