// The operators inside the real ONNX Runtime, from C++ and linked into this program, so that a sanitizer
// sees every access of theirs.
//
//     ort_host LIBONNXRUNTIME run SECONDS THREADS MODEL POOL    threads share a session of POOL threads;
//                                                               results never change
//     ort_host LIBONNXRUNTIME refuse MODEL...                   no session is made; prints what was said
//
//     ort_host LIBONNXRUNTIME allocations MODEL             running a model allocates nothing of ours;
//                                                           compiled with -DAPA_COUNT_ALLOCATIONS
//
// A model has one float input `x` of shape [N, 3, M] and one output `y`.
#include <dlfcn.h>
#include <onnxruntime_c_api.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <thread>
#include <vector>

namespace {
// Allocations by code of this program: neither ONNX Runtime nor the C++ library lies in its text.
std::atomic<size_t> allocations{0};
}  // namespace

#ifdef APA_COUNT_ALLOCATIONS
extern char __executable_start, etext;  // the linker's names for where the text lies

void* operator new(std::size_t size) {
  const char* caller = static_cast<const char*>(__builtin_return_address(0));
  if (caller >= &__executable_start && caller < &etext) allocations++;
  void* memory = std::malloc(size ? size : 1);
  if (!memory) throw std::bad_alloc();
  return memory;
}

void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

extern "C" OrtStatus* ORT_API_CALL RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base);

namespace {

const OrtApiBase* base;
const OrtApi* api;
OrtEnv* environment;

std::atomic<size_t> in_run{0};  // what was allocated within Run; of use to one thread at a time

// The message of a failure, "" where there was none.
std::string said(OrtStatus* status) {
  if (!status) return "";
  const std::string text = api->GetErrorMessage(status);
  api->ReleaseStatus(status);
  return text;
}

void must(OrtStatus* status) {
  const std::string text = said(status);
  if (text.empty()) return;
  std::printf("FAIL %s\n", text.c_str());
  std::exit(1);
}

void open_runtime(const char* library) {
  void* handle = dlopen(library, RTLD_NOW);
  if (!handle) {
    std::printf("FAIL %s\n", dlerror());
    std::exit(1);
  }
  base = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(handle, "OrtGetApiBase"))();
  api = base->GetApi(17);
  must(api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "host", &environment));
}

OrtSession* session(const char* model, int threads, std::string* why) {
  OrtSessionOptions* options = nullptr;
  OrtSession* made = nullptr;
  must(api->CreateSessionOptions(&options));
  must(api->SetIntraOpNumThreads(options, threads));
  must(RegisterCustomOps(options, base));
  must(RegisterCustomOps(options, base));  // twice is harmless
  *why = said(api->CreateSession(environment, model, options, &made));
  api->ReleaseSessionOptions(options);
  return made;
}

std::vector<float> outputs(OrtSession* session, std::vector<float> x, int64_t n, int64_t m) {
  OrtMemoryInfo* memory = nullptr;
  OrtValue *input = nullptr, *output = nullptr;
  const int64_t shape[] = {n, 3, m};
  const char *in = "x", *out = "y";
  must(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory));
  must(api->CreateTensorWithDataAsOrtValue(memory, x.data(), x.size() * sizeof(float), shape, 3,
                                           ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT, &input));
  const size_t before = allocations;
  must(api->Run(session, nullptr, &in, &input, 1, &out, 1, &output));
  in_run += allocations - before;
  float* y = nullptr;
  must(api->GetTensorMutableData(output, reinterpret_cast<void**>(&y)));
  std::vector<float> result(y, y + x.size());
  api->ReleaseValue(output);
  api->ReleaseValue(input);
  api->ReleaseMemoryInfo(memory);
  return result;
}

struct Case {
  int64_t n, m;
  std::vector<float> x, wanted;
};

std::vector<Case> cases(OrtSession* session) {
  std::vector<Case> list;
  for (int64_t m : {0, 1, 7, 64, 1001, 20000}) {
    Case c{2, m, std::vector<float>(static_cast<size_t>(6 * m)), {}};
    for (size_t i = 0; i < c.x.size(); i++) c.x[i] = static_cast<float>(i % 1601) / 100 - 8;
    c.wanted = outputs(session, c.x, c.n, c.m);
    list.push_back(c);
  }
  return list;
}

int run(double seconds, size_t threads, const char* model, int pool) {
  std::string why;
  OrtSession* shared = session(model, pool, &why);
  if (!shared) return std::printf("FAIL %s\n", why.c_str()), 1;
  const std::vector<Case> list = cases(shared);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  std::atomic<size_t> runs{0}, wrong{0};
  std::vector<std::thread> workers;
  for (size_t t = 0; t < threads; t++)
    workers.emplace_back([&, t] {
      for (size_t i = t; i < t + list.size() || std::chrono::steady_clock::now() < end; i++) {
        const Case& c = list[i % list.size()];
        const std::vector<float> y = outputs(shared, c.x, c.n, c.m);
        runs++;
        wrong += y.size() && std::memcmp(y.data(), c.wanted.data(), y.size() * sizeof(float)) != 0;
      }
    });
  for (auto& worker : workers) worker.join();
  api->ReleaseSession(shared);
  std::printf("%zu runs, %zu wrong\n", runs.load(), wrong.load());
  return wrong != 0;
}

int count_allocations(const char* model) {
  std::string why;
  OrtSession* one = session(model, 2, &why);
  if (!one) return std::printf("FAIL %s\n", why.c_str()), 1;
  cases(one);
  api->ReleaseSession(one);
  std::printf("%zu allocations, %zu of them in Run\n", allocations.load(), in_run.load());
  return allocations == 0 || in_run != 0;  // none at all: they are not counted
}

int refuse(int count, char** models) {
  int made = 0;
  for (int i = 0; i < count; i++) {
    std::string why;
    OrtSession* unexpected = session(models[i], 1, &why);
    made += unexpected != nullptr;
    std::printf("%s\n", why.c_str());
    if (unexpected) api->ReleaseSession(unexpected);
  }
  return made != 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return 2;
  open_runtime(argv[1]);
  int code = 2;
  if (!std::strcmp(argv[2], "refuse")) code = refuse(argc - 3, argv + 3);
  if (!std::strcmp(argv[2], "allocations")) code = count_allocations(argv[3]);
  if (!std::strcmp(argv[2], "run") && argc == 7)
    code = run(std::atof(argv[3]), std::strtoull(argv[4], nullptr, 10), argv[5], std::atoi(argv[6]));
  api->ReleaseEnv(environment);
  return code;
}
