#include "node.h"

#include <exception>

namespace apa {

bool Node::failed(OrtStatus* status) const {
  if (!status) return false;
  api_->ReleaseStatus(status);
  return true;
}

std::vector<double> Node::floats(const char* name) const {
  size_t count = 0;
  if (failed(api_->KernelInfoGetAttributeArray_float(info_, name, nullptr, &count)))
    throw Refusal(std::string(name) + " is missing; wanted an attribute that is a list of floats");
  std::vector<float> values(count);
  if (count && failed(api_->KernelInfoGetAttributeArray_float(info_, name, values.data(), &count)))
    throw Refusal(std::string(name) + " cannot be read; wanted an attribute that is a list of floats");
  return {values.begin(), values.end()};
}

int64_t Node::integer(const char* name, int64_t otherwise) const {
  int64_t value = otherwise;
  if (!failed(api_->KernelInfoGetAttribute_int64(info_, name, &value))) return value;
  float real = 0;
  if (!failed(api_->KernelInfoGetAttribute_float(info_, name, &real)))
    throw Refusal(std::string(name) + " is " + std::to_string(real) + "; wanted an attribute that is an integer");
  return otherwise;
}

std::vector<int64_t> Node::integers(const char* name) const {
  size_t count = 0;
  if (failed(api_->KernelInfoGetAttributeArray_int64(info_, name, nullptr, &count)))
    throw Refusal(std::string(name) + " is missing; wanted an attribute that is a list of integers");
  std::vector<int64_t> values(count);
  if (count && failed(api_->KernelInfoGetAttributeArray_int64(info_, name, values.data(), &count)))
    throw Refusal(std::string(name) + " cannot be read; wanted an attribute that is a list of integers");
  return values;
}

std::string Node::bytes(const char* name) const {
  size_t size = 0;
  failed(api_->KernelInfoGetAttribute_string(info_, name, nullptr, &size));  // only asks for the size
  std::string value(size, '\0');
  if (!size || failed(api_->KernelInfoGetAttribute_string(info_, name, &value[0], &size)))
    throw Refusal(std::string(name) + " is missing; wanted an attribute that is a string");
  value.pop_back();  // C's end
  return value;
}

template <class Read>
std::string Node::text(Read read) const {
  size_t size = 0;
  failed(read(nullptr, &size));  // only asks for the size
  std::string text(size, '\0');
  if (size == 0 || failed(read(&text[0], &size))) text.clear();
  while (!text.empty() && text.back() == '\0') text.pop_back();
  return text;
}

std::string Node::name() const {
  const std::string name = text([&](char* to, size_t* n) { return api_->KernelInfo_GetNodeName(info_, to, n); });
  if (!name.empty()) return "node '" + name + "' (com.apa::" + operation_ + ")";
  const std::string output =
      text([&](char* to, size_t* n) { return api_->KernelInfo_GetOutputName(info_, 0, to, n); });
  return "the nameless node that makes '" + output + "' (com.apa::" + operation_ + ")";
}

std::vector<int64_t> Node::input_shape(size_t index) const {
  OrtTypeInfo* type = nullptr;
  if (failed(api_->KernelInfo_GetInputTypeInfo(info_, index, &type))) return {};
  const OrtTensorTypeAndShapeInfo* tensor = nullptr;
  std::vector<int64_t> dims;
  size_t rank = 0;
  if (!failed(api_->CastTypeInfoToTensorInfo(type, &tensor)) && tensor &&
      !failed(api_->GetDimensionsCount(tensor, &rank))) {
    dims.resize(rank);
    if (rank && failed(api_->GetDimensions(tensor, dims.data(), rank))) dims.clear();
  }
  api_->ReleaseTypeInfo(type);
  return dims;
}

Attributes Node::attributes() const {
  Attributes p;
  p.lambda = floats("lambda");
  p.kappa = floats("kappa");
  p.axis = integer("axis", 1);
  p.block = integer("block", 1);
  return p;
}

OrtStatus* guarded(const OrtApi* api, const std::function<std::string()>& where,
                   const std::function<OrtStatus*()>& body) noexcept {
  try {
    try {
      return body();
    } catch (const Refusal& refusal) {
      return api->CreateStatus(ORT_INVALID_ARGUMENT, (where() + ": " + refusal.what()).c_str());
    }
  } catch (const std::exception& error) {
    return api->CreateStatus(ORT_FAIL, error.what());
  }
}

}  // namespace apa
