// What a builder asks of the plugin: types, shapes, formats, configuration, identity.
#include <set>

#include "trt_check.h"
#include "trt_harness.h"
#include "trt_tensor.h"

namespace {

using namespace harness;

Owned per_channel(int32_t channels, int32_t axis, float scale = 0) {
  std::vector<Field> fields = {floats("lambda", std::vector<float>(static_cast<size_t>(channels), 0.5f)),
                               floats("kappa", {1.f}), ints("axis", {axis})};
  if (scale > 0) fields.push_back(floats("scale_out", {scale}));
  return created("AGLU", fields);
}

void capabilities() {
  const Owned p = scalar("APA");
  check::expect(!std::strcmp(core(*p).getInterfaceInfo().kind, "PLUGIN_V3ONE_CORE"), "core");
  check::expect(!std::strcmp(build(*p).getInterfaceInfo().kind, "PLUGIN_V3ONE_BUILD"), "build");
  check::expect(!std::strcmp(runtime(*p).getInterfaceInfo().kind, "PLUGIN_V3ONE_RUNTIME"), "runtime");
  check::expect(p->getCapabilityInterface(static_cast<PluginCapabilityType>(77)) == nullptr, "an unknown one");
  check::expect(!std::strcmp(core(*p).getPluginName(), "APA"), "name");
  check::expect(!std::strcmp(core(*p).getPluginVersion(), "1"), "version");
  check::expect(!std::strcmp(core(*p).getPluginNamespace(), "apa"), "namespace");
  check::expect(build(*p).getNbOutputs() == 1, "outputs");
  check::expect(build(*p).getNbTactics() == 0, "tactics");
  check::expect(build(*p).getWorkspaceSize(nullptr, 1, nullptr, 1) == 0, "workspace");
  check::expect(runtime(*p).setTactic(0) == 0, "setTactic");
}

void output_types() {
  const Owned p = scalar(), codes = per_channel(1, 1, 0.1f);
  for (DataType type : {DataType::kFLOAT, DataType::kHALF, DataType::kBF16}) {
    DataType out = DataType::kBOOL;
    check::expect(build(*p).getOutputDataTypes(&out, 1, &type, 1) == 0 && out == type, "type %d",
                  static_cast<int>(type));
    check::expect(build(*codes).getOutputDataTypes(&out, 1, &type, 1) == 0 && out == DataType::kINT8,
                  "codes of type %d", static_cast<int>(type));
    check::expect(build(*p).getOutputDataTypes(&out, 1, &type, 2) != 0, "two inputs");
    check::expect(build(*p).getOutputDataTypes(&out, 2, &type, 1) != 0, "two outputs");
    check::expect(build(*p).getOutputDataTypes(nullptr, 1, &type, 1) != 0, "no room");
    check::expect(build(*p).getOutputDataTypes(&out, 1, nullptr, 1) != 0, "no input");
  }
}

// The output's dimensions are the input's own expressions, dynamic ones too; nothing is asked of the builder.
void output_shapes() {
  const Owned p = scalar();
  Builder builder;
  const Expression batch(-1, false), channels(8, true), side(4, true);
  for (int32_t rank = 0; rank <= Dims::MAX_DIMS; rank++) {
    DimsExprs in{}, out{};
    in.nbDims = rank;
    for (int32_t i = 0; i < rank; i++) in.d[i] = i == 0 ? &batch : i == 1 ? &channels : &side;
    check::expect(build(*p).getOutputShapes(&in, 1, nullptr, 0, &out, 1, builder) == 0, "rank %d", rank);
    check::expect(out.nbDims == rank, "rank %d became %d", rank, out.nbDims);
    for (int32_t i = 0; i < rank; i++) check::expect(out.d[i] == in.d[i], "dimension %d", i);
    check::expect(build(*p).getOutputShapes(&in, 2, nullptr, 0, &out, 1, builder) != 0, "two inputs");
    check::expect(build(*p).getOutputShapes(&in, 1, nullptr, 0, &out, 0, builder) != 0, "no output");
    check::expect(build(*p).getOutputShapes(nullptr, 1, nullptr, 0, &out, 1, builder) != 0, "no input");
  }
  check::expect(builder.calls == 0, "the builder was asked %d times", builder.calls);
}

bool supported(IPluginV3& p, int32_t position, const PluginTensorDesc& in, const PluginTensorDesc& out) {
  const DynamicPluginTensorDesc both[] = {dynamic(in), dynamic(out)};
  return build(p).supportsFormatCombination(position, both, 1, 1);
}

const DataType kTypes[] = {DataType::kFLOAT, DataType::kHALF, DataType::kBF16, DataType::kINT8,
                           DataType::kINT32, DataType::kBOOL, DataType::kFP8,  DataType::kINT64};
const std::set<DataType> kSupported(kTypes, kTypes + 3);

// Every format whose rank fits, in the three types, where output and input agree; nothing else. Of codes the output is
// int8 in the input's format.
void formats() {
  const Owned scalars = scalar(), channels = per_channel(3, 1), codes = per_channel(3, 1, 0.1f);
  const std::vector<int64_t> sides = {2, 3, 4, 5, 6, 7, 8, 9};
  for (DataType type : kTypes) {
    for (int32_t format = -1; format < 16; format++) {
      const auto* known = std::find_if(std::begin(tensors::kFormats), std::end(tensors::kFormats),
                                       [&](auto& f) { return static_cast<int32_t>(f.format) == format; });
      for (size_t rank = 0; rank <= 8; rank++) {
        const auto desc = tensor({sides.begin(), sides.begin() + static_cast<std::ptrdiff_t>(rank)}, type,
                                 static_cast<TensorFormat>(format));
        const bool wanted = kSupported.count(type) && known != std::end(tensors::kFormats) && rank >= known->from_end;
        for (const Owned* p : {&scalars, &channels}) {
          check::expect(supported(**p, 0, desc, {}) == wanted, "type %d format %d rank %zu", static_cast<int>(type),
                        format, rank);
          check::expect(!wanted || supported(**p, 1, desc, desc), "output: type %d format %d rank %zu",
                        static_cast<int>(type), format, rank);
        }
        check::expect(supported(*codes, 0, desc, {}) == wanted, "codes of type %d format %d rank %zu",
                      static_cast<int>(type), format, rank);
        auto coded = desc;
        coded.type = DataType::kINT8;
        check::expect(!wanted || supported(*codes, 1, desc, coded), "codes in format %d rank %zu", format, rank);
        check::expect(!wanted || !supported(*codes, 1, desc, desc), "no codes in format %d rank %zu", format, rank);
      }
    }
  }
}

void disagreeing_formats() {
  const Owned p = scalar();
  const auto linear = tensor({2, 8, 4, 4}, DataType::kHALF), wide = tensor({2, 8, 4, 4}, DataType::kFLOAT);
  const auto vectors = tensor({2, 8, 4, 4}, DataType::kHALF, TensorFormat::kHWC8);
  check::expect(!supported(*p, 1, linear, vectors), "output in another format");
  check::expect(!supported(*p, 1, linear, wide), "output of another type");
  auto codes = vectors;
  codes.type = DataType::kINT8;
  check::expect(!supported(*p, 1, vectors, codes), "codes without a scale");
  check::expect(!supported(*per_channel(1, 1, 0.1f), 1, linear, codes), "codes in another format");
  check::expect(!supported(*p, 2, linear, linear) && !supported(*p, -1, linear, linear), "position");
  const DynamicPluginTensorDesc both[] = {dynamic(linear), dynamic(linear)};
  check::expect(!build(*p).supportsFormatCombination(0, both, 2, 1), "two inputs");
  check::expect(!build(*p).supportsFormatCombination(0, both, 1, 2), "two outputs");
  check::expect(!build(*p).supportsFormatCombination(0, nullptr, 1, 1), "no tensors");
  check::expect(build(*p).getFormatCombinationLimit() >= 33, "3 types in 11 formats must all be seen");
}

struct Configuration {
  const char* name;
  int32_t channels, axis;
  PluginTensorDesc in, out;
  const char* message;  // null: accepted
  float scale = 0;
};

void configurations() {
  const auto nchw = tensor({-1, 8, 4, 4}), nhwc = tensor({-1, 4, 4, 8}), scalars = tensor({});
  const auto unknown = tensor({-1, -1, 4, 4}), half = tensor({-1, 8, 4, 4}, DataType::kHALF);
  const auto hwc8 = tensor({-1, 8, 4, 4}, DataType::kFLOAT, TensorFormat::kHWC8);
  const auto codes = tensor({-1, 8, 4, 4}, DataType::kINT8), int32 = tensor({-1, 8}, DataType::kINT32);
  const auto flat = tensor({8}, DataType::kHALF, TensorFormat::kCHW2);
  const auto dla = tensor({1, 8, 4, 4}, DataType::kHALF, TensorFormat::kDLA_LINEAR);
  const Configuration table[] = {
      {"scalar", 1, 1, nchw, nchw, nullptr},
      {"scalar tensor", 1, 1, scalars, scalars, nullptr},
      {"8 channels", 8, 1, nchw, nchw, nullptr},
      {"8 channels, last", 8, -1, nhwc, nhwc, nullptr},
      {"8 channels, axis 3", 8, 3, nhwc, nhwc, nullptr},
      {"channels not known yet", 8, 1, unknown, unknown, nullptr},
      {"codes", 8, 1, nchw, codes, nullptr, 0.1f},
      {"codes of half", 1, 1, half, codes, nullptr, 0.1f},
      {"codes without a scale", 1, 1, nchw, codes, "output of type 2 in format 0; wanted type 0"},
      {"a scale without codes", 1, 1, nchw, nchw, "output of type 0 in format 0; wanted type 2", 0.1f},
      {"codes in another format", 1, 1, hwc8, codes, "wanted type 2 in the input's format, 2", 0.1f},
      {"codes of codes", 1, 1, codes, codes, "type 2 in format 0 with 4 dimensions is not supported", 0.1f},
      {"5 for 8", 5, 1, nchw, nchw, "5 parameters for the 8 channels along axis 1"},
      {"8 for 4", 8, -1, nchw, nchw, "8 parameters for the 4 channels along axis -1"},
      {"axis beyond", 8, 4, nchw, nchw, "axis 4 is not one of a tensor of 4 dimensions"},
      {"axis before", 8, -5, nchw, nchw, "axis -5"},
      {"channels of a scalar tensor", 8, 1, scalars, scalars, "axis 1"},
      {"other type", 1, 1, nchw, half, "output of type 1 in format 0; wanted type 0"},
      {"other format", 1, 1, nchw, hwc8, "wanted type 0 in the input's format, 0"},
      {"int8", 1, 1, codes, codes, "type 2 in format 0"},
      {"int32", 1, 1, int32, int32, "type 3"},
      {"vectors of a vector", 1, 1, flat, flat, "1 dimensions"},
      {"DLA", 1, 1, dla, dla, "format 9"},
  };
  for (const Configuration& c : table) {
    Said said;
    const Owned p = per_channel(c.channels, c.axis, c.scale);
    const DynamicPluginTensorDesc in = dynamic(c.in), out = dynamic(c.out);
    const bool accepted = build(*p).configurePlugin(&in, 1, &out, 1) == 0;
    check::expect(accepted == (c.message == nullptr), "%s: %s", c.name, accepted ? "accepted" : "refused");
    check::expect(c.message ? said.has(c.message) : said.text().empty(), "%s said: %s", c.name, said.text().c_str());
    check::expect(build(*p).configurePlugin(&in, 2, &out, 1) != 0, "two inputs");
    check::expect(build(*p).configurePlugin(nullptr, 1, &out, 1) != 0, "no inputs");
  }
}

std::string id(const Owned& p) { return build(*p).getTimingCacheID(); }

// One timing serves all layers that run the same kernel, and no others.
void timing_cache() {
  check::expect(id(scalar("AGLU", 0.5f)) == id(scalar("AGLU", 2.f, 7.f)), "same kernel");
  check::expect(id(scalar("AGLU", 0.f)) == id(scalar("AGLU", 0.1f)), "same kernel");
  const std::string different[] = {id(scalar("AGLU", 0.5f)), id(scalar("AGLU", 0.1f)), id(scalar("APA", 0.5f)),
                                   id(scalar("APA", 0.1f)),  id(per_channel(8, 1)),    id(per_channel(16, 1)),
                                   id(per_channel(8, 2)),    id(per_channel(8, 2, 0.1f))};
  check::expect(id(per_channel(8, 1, 0.1f)) == id(per_channel(8, 1, 7.f)), "same kernel");
  check::expect(std::set<std::string>(std::begin(different), std::end(different)).size() == 8, "ids collide");
  for (const std::string& name : different) {
    check::expect(name.rfind("apa.1.", 0) == 0, "id %s does not carry the version", name.c_str());
  }
}

void metadata() {
  const auto text = [](const Owned& p) { return std::string(build(*p).getMetadataString()); };
  check::expect(text(scalar("AGLU", 0.5f, -1.25f)) == "lambda=0.5 kappa=-1.25", "%s", text(scalar()).c_str());
  const Owned p = created("APA", {floats("lambda", {2.f, 0.f, 1.f}), floats("kappa", {1.f}), ints("axis", {-1})});
  check::expect(text(p) == "lambda=[0 .. 2; 3] kappa=1 axis=-1", "%s", text(p).c_str());
  check::expect(text(per_channel(1, 1, 0.25f)) == "lambda=0.5 kappa=1 scale_out=0.25", "codes");
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"capabilities", capabilities},
                                 {"output_types", output_types},
                                 {"output_shapes", output_shapes},
                                 {"formats", formats},
                                 {"disagreeing_formats", disagreeing_formats},
                                 {"configurations", configurations},
                                 {"timing_cache", timing_cache},
                                 {"metadata", metadata}};
  return check::main_of(suites, argc, argv);
}
