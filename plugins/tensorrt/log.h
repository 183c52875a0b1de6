// What the plugin says: one line on stderr. TensorRT's own logger cannot be asked for, because the layout of
// ILogger and ILoggerFinder differs between the releases that one build of this library loads into.
#ifndef APA_TENSORRT_LOG_H
#define APA_TENSORRT_LOG_H

#include <cstdint>

namespace apa {

// "[apa] AGLU 'layer 3': ..." Returns -1, what a plugin method answers where it fails.
__attribute__((format(printf, 3, 4))) int32_t complain(const char* plugin, const char* layer,
                                                       const char* format, ...) noexcept;

}  // namespace apa

#endif  // APA_TENSORRT_LOG_H
