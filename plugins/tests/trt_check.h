// Counts what is wrong and says it; a program ends with report().
#ifndef TRT_CHECK_H
#define TRT_CHECK_H

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace check {

inline int failures = 0, checks = 0;

__attribute__((format(printf, 2, 3))) inline bool expect(bool good, const char* format, ...) {
  checks++;
  if (good) return true;
  if (++failures <= 20) {
    std::va_list arguments;
    va_start(arguments, format);
    std::printf("FAIL ");
    std::vprintf(format, arguments);
    std::printf("\n");
    va_end(arguments);
  }
  if (std::getenv("STOP_AT_FIRST")) std::exit(1);
  return false;
}

struct Suite {
  const char* name;
  void (*run)();
};

// Runs the suite that the command names, or all of them. Exit code 0: every check held, and there was one.
template <size_t kCount>
int main_of(const Suite (&suites)[kCount], int argc, char** argv) {
  for (const Suite& suite : suites) {
    if (argc < 2 || std::strcmp(argv[1], suite.name) == 0) suite.run();
  }
  std::printf("%d checks, %d failures\n", checks, failures);
  return failures > 0 || checks == 0;
}

}  // namespace check

#endif  // TRT_CHECK_H
