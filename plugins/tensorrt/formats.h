// TensorRT's names for types and formats, and ours.
#ifndef APA_TENSORRT_FORMATS_H
#define APA_TENSORRT_FORMATS_H

#include <NvInferRuntime.h>

#include <optional>

#include "activation.h"
#include "layout.h"

namespace apa {

// Empty for a type or format that the activation does not read: bool, integers, float8;
// the two DLA formats, which no plugin can meet.
std::optional<Element> element_of(nvinfer1::DataType type);
std::optional<Format> format_of(nvinfer1::TensorFormat format);

}  // namespace apa

#endif  // APA_TENSORRT_FORMATS_H
