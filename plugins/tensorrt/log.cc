#include "log.h"

#include <cstdarg>
#include <cstdio>

namespace apa {

int32_t complain(const char* plugin, const char* layer, const char* format, ...) noexcept {
  char text[512];
  std::va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  std::fprintf(stderr, "[apa] %s '%s': %s\n", plugin, layer ? layer : "", text);
  return -1;
}

}  // namespace apa
