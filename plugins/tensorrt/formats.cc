#include "formats.h"

namespace apa {

using nvinfer1::DataType;
using nvinfer1::TensorFormat;

std::optional<Element> element_of(DataType type) {
  switch (type) {
    case DataType::kFLOAT: return Element::Float32;
    case DataType::kHALF: return Element::Float16;
    case DataType::kBF16: return Element::Bfloat16;
    default: return std::nullopt;
  }
}

std::optional<Format> format_of(TensorFormat format) {
  using Order = Format::Order;
  switch (format) {
    case TensorFormat::kLINEAR: return Format{Order::Linear, 1, 0};
    case TensorFormat::kHWC: return Format{Order::VectorMinor, 1, 3};
    case TensorFormat::kHWC8: return Format{Order::VectorMinor, 8, 3};
    case TensorFormat::kHWC16: return Format{Order::VectorMinor, 16, 3};
    case TensorFormat::kDHWC: return Format{Order::VectorMinor, 1, 4};
    case TensorFormat::kDHWC8: return Format{Order::VectorMinor, 8, 4};
    case TensorFormat::kCHW2: return Format{Order::VectorMajor, 2, 3};
    case TensorFormat::kCHW4: return Format{Order::VectorMajor, 4, 3};
    case TensorFormat::kCHW16: return Format{Order::VectorMajor, 16, 3};
    case TensorFormat::kCHW32: return Format{Order::VectorMajor, 32, 3};
    case TensorFormat::kCDHW32: return Format{Order::VectorMajor, 32, 4};
    default: return std::nullopt;
  }
}

}  // namespace apa
