#include "fields.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>

namespace apa {
namespace {

using nvinfer1::PluginField;
using nvinfer1::PluginFieldCollection;
using nvinfer1::PluginFieldType;

constexpr int32_t kMostChannels = 1 << 24;  // far above any network; keeps every index in 32 bits

[[noreturn]] void refuse(const PluginField& field, const std::string& saw, const std::string& wanted) {
  throw FieldError(std::string("field '") + field.name + "' " + saw + "; wanted " + wanted);
}

// Copied, not read in place: a field's data need not be aligned.
template <class Stored>
Stored value_at(const PluginField& field, size_t i) {
  Stored stored;
  std::memcpy(&stored, static_cast<const char*>(field.data) + i * sizeof(Stored), sizeof(Stored));
  return stored;
}

template <class Stored>
std::vector<float> converted(const PluginField& field) {
  std::vector<float> values(static_cast<size_t>(field.length));
  for (size_t i = 0; i < values.size(); i++) {
    const double value = static_cast<double>(value_at<Stored>(field, i));
    const bool fits = std::abs(value) <= static_cast<double>(std::numeric_limits<float>::max());
    if (!fits) refuse(field, "holds " + std::to_string(value), "finite float32 values");
    values[i] = static_cast<float>(value);
  }
  return values;
}

void check_length(const PluginField& field, int32_t most) {
  if (field.data != nullptr && field.length >= 1 && field.length <= most) return;
  refuse(field, "has length " + std::to_string(field.data ? field.length : 0),
         most == 1 ? "length 1" : "length 1 or the number of channels");
}

std::vector<float> floats(const PluginField& field) {
  check_length(field, kMostChannels);
  switch (field.type) {
    case PluginFieldType::kFLOAT32: return converted<float>(field);
    case PluginFieldType::kFLOAT64: return converted<double>(field);
    case PluginFieldType::kINT32: return converted<int32_t>(field);
    default: break;
  }
  refuse(field, "has field type " + std::to_string(static_cast<int>(field.type)), "FLOAT32, FLOAT64 or INT32");
}

int32_t axis_of(const PluginField& field) {
  check_length(field, 1);
  int64_t axis = 0;
  if (field.type == PluginFieldType::kINT32) {
    axis = value_at<int32_t>(field, 0);
  } else if (field.type == PluginFieldType::kINT64) {
    axis = value_at<int64_t>(field, 0);
  } else {
    refuse(field, "has field type " + std::to_string(static_cast<int>(field.type)), "one INT32");
  }
  const int64_t most = nvinfer1::Dims::MAX_DIMS;
  if (axis < -most || axis >= most) refuse(field, "is " + std::to_string(axis), "an axis of a tensor");
  return static_cast<int32_t>(axis);
}

// Far from where a quotient of the kernels, or what it lacks, would overflow or be subnormal.
constexpr float kLeastScale = 1e-30f, kMostScale = 1e30f;

float scale_of(const PluginField& field) {
  check_length(field, 1);
  if (field.type != PluginFieldType::kFLOAT32) {
    refuse(field, "has field type " + std::to_string(static_cast<int>(field.type)), "one FLOAT32");
  }
  const float scale = value_at<float>(field, 0);
  const bool fits = scale >= kLeastScale && scale <= kMostScale;
  if (!fits) refuse(field, "is " + std::to_string(scale), "a scale, finite and above 0 (1e-30 to 1e30)");
  return scale;
}

bool is_one_of(const char* name, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](auto other) { return !std::strcmp(name, other); });
}

void check_names(const PluginFieldCollection& fields, bool codes) {
  for (int32_t i = 0; i < fields.nbFields; i++) {
    const char* name = fields.fields[i].name;
    if (name == nullptr) throw FieldError("a field has no name");
    const bool known = is_one_of(name, {"lambda", "kappa", "axis", "plugin_version", "plugin_namespace"});
    if (known || (codes && is_one_of(name, {"scale_out"}))) continue;
    const char* wanted = codes ? "lambda, kappa, axis, scale_out" : "lambda, kappa, axis";
    throw FieldError(std::string("field '") + name + "' is unknown; wanted " + wanted);
  }
}

// The field of that name, or null; a second one is refused, since either could be meant.
const PluginField* found(const PluginFieldCollection& fields, const char* name) {
  const PluginField* field = nullptr;
  for (int32_t i = 0; i < fields.nbFields; i++) {
    if (std::strcmp(fields.fields[i].name, name) != 0) continue;
    if (field) refuse(*field, "is given twice", "it once");
    field = &fields.fields[i];
  }
  return field;
}

const PluginField& required(const PluginFieldCollection& fields, const char* name) {
  const PluginField* field = found(fields, name);
  if (!field) throw FieldError(std::string("field '") + name + "' is missing; wanted it");
  return *field;
}

void check_values(const Parameters& p) {
  const bool negative = std::any_of(p.lambda.begin(), p.lambda.end(), [](float v) { return v < 0; });
  if (negative) throw FieldError("field 'lambda' holds a negative value; wanted 0 or more: apply the floor");
  if (p.lambda.size() > 1 && p.kappa.size() > 1 && p.lambda.size() != p.kappa.size()) {
    throw FieldError("fields 'lambda' and 'kappa' have lengths " + std::to_string(p.lambda.size()) + " and " +
                     std::to_string(p.kappa.size()) + "; wanted equal lengths, or 1");
  }
}

}  // namespace

const PluginFieldCollection& announced_fields(bool codes) {
  static const PluginField fields[] = {{"lambda", nullptr, PluginFieldType::kFLOAT32, 1},
                                       {"kappa", nullptr, PluginFieldType::kFLOAT32, 1},
                                       {"axis", nullptr, PluginFieldType::kINT32, 1},
                                       {"scale_out", nullptr, PluginFieldType::kFLOAT32, 1}};
  static const PluginFieldCollection floats{3, fields}, all{4, fields};
  return codes ? all : floats;
}

Parameters parameters_of(const PluginFieldCollection* fields, bool codes) {
  if (!fields || fields->nbFields < 1 || !fields->fields) {
    throw FieldError("no fields are given; wanted lambda and kappa");
  }
  check_names(*fields, codes);
  Parameters parameters{floats(required(*fields, "lambda")), floats(required(*fields, "kappa")), 1, 0};
  if (const PluginField* axis = found(*fields, "axis")) parameters.axis = axis_of(*axis);
  if (codes) parameters.scale_out = scale_of(required(*fields, "scale_out"));
  check_values(parameters);
  return parameters;
}

std::vector<PluginField> fields_of(const Parameters& p) {
  std::vector<PluginField> fields = {
      {"lambda", p.lambda.data(), PluginFieldType::kFLOAT32, static_cast<int32_t>(p.lambda.size())},
      {"kappa", p.kappa.data(), PluginFieldType::kFLOAT32, static_cast<int32_t>(p.kappa.size())}};
  if (p.channels() > 1 && p.axis != 1) fields.push_back({"axis", &p.axis, PluginFieldType::kINT32, 1});
  if (p.scale_out > 0) fields.push_back({"scale_out", &p.scale_out, PluginFieldType::kFLOAT32, 1});
  return fields;
}

}  // namespace apa
