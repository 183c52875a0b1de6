// Plugin fields to parameters and back.
#ifndef APA_TENSORRT_FIELDS_H
#define APA_TENSORRT_FIELDS_H

#include <NvInferRuntime.h>

#include <optional>
#include <stdexcept>
#include <vector>

#include "activation.h"

namespace apa {

// A field is not what it must be; what() says which, what was seen and what was wanted.
struct FieldError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The fields a creator announces: lambda and kappa (required), axis (default 1); and scale_out of one that makes plugins
// that give codes, which it requires and the other does not know: parsers warn of each announced one that a node lacks.
const nvinfer1::PluginFieldCollection& announced_fields(bool codes);

// Throws FieldError for a field that is missing, repeated, unknown, empty, not finite, negative (lambda), or
// of a wrong length or type. lambda and kappa: FLOAT32, FLOAT64 or INT32, of length 1 or C; axis: one INT32
// or INT64; scale_out: one FLOAT32 in 1e-30 .. 1e30. plugin_version and plugin_namespace, a node's own attributes, are passed over.
Parameters parameters_of(const nvinfer1::PluginFieldCollection* fields, bool codes);

// What an engine keeps: lambda and kappa as they are, axis only where it matters, scale_out where there is one.
// The fields point into `parameters`.
std::vector<nvinfer1::PluginField> fields_of(const Parameters& parameters);

}  // namespace apa

#endif  // APA_TENSORRT_FIELDS_H
