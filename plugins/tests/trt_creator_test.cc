// Creators and fields: what is announced, accepted, refused with which message, and kept in an engine.
#include <cmath>
#include <limits>
#include <new>

#include "trt_check.h"
#include "trt_harness.h"

namespace {

using namespace harness;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

void creators() {
  int32_t count = 0;
  IPluginCreatorInterface* const* all = getCreators(count);
  check::expect(count == 4, "%d creators", count);
  for (int32_t i = 0; i < count; i++) {
    auto* c = static_cast<IPluginCreatorV3One*>(all[i]);
    check::expect(!std::strcmp(c->getInterfaceInfo().kind, "PLUGIN CREATOR_V3ONE"), "interface");
    const int32_t codes = i >= 2;
    check::expect(!std::strcmp(c->getPluginVersion(), "1"), "version %s", c->getPluginVersion());
    check::expect(!std::strcmp(c->getPluginNamespace(), "apa"), "namespace %s", c->getPluginNamespace());
    const PluginFieldCollection& fields = *c->getFieldNames();
    const char* const wanted[] = {"lambda", "kappa", "axis", "scale_out"};
    check::expect(fields.nbFields == 3 + codes, "%d fields", fields.nbFields);
    for (int32_t f = 0; f < fields.nbFields; f++) check::expect(!std::strcmp(fields.fields[f].name, wanted[f]), "field %d", f);
  }
  check::expect(&creator("APA") != &creator("AGLU"), "one creator for both");
  setLoggerFinder(nullptr);  // keeps nothing, calls nothing
}

struct Good {
  const char* name;
  std::vector<Field> fields;
  std::vector<float> lambda, kappa;  // what an engine keeps
  int32_t axis;                      // 1: not kept
  float scale = 0;                   // of codes; 0: not kept
};

std::vector<Good> good_fields() {
  const Field l = floats("lambda", {0.5f}), k = floats("kappa", {1.25f});
  const Field l3 = floats("lambda", {0.f, 0.5f, 2.f}), k3 = floats("kappa", {1.f, -1.f, 0.f});
  return {
      {"scalars", {l, k}, {0.5f}, {1.25f}, 1},
      {"any order", {k, l}, {0.5f}, {1.25f}, 1},
      {"lambda 0", {floats("lambda", {0.f}), k}, {0.f}, {1.25f}, 1},
      {"lambda float64", {field<double>("lambda", PluginFieldType::kFLOAT64, {0.5}), k}, {0.5f}, {1.25f}, 1},
      {"lambda int32", {ints("lambda", {2}), ints("kappa", {-3})}, {2.f}, {-3.f}, 1},
      {"tiny float64", {field<double>("lambda", PluginFieldType::kFLOAT64, {1e-300}), k}, {0.f}, {1.25f}, 1},
      {"both per channel", {l3, k3}, {0.f, 0.5f, 2.f}, {1.f, -1.f, 0.f}, 1},
      {"lambda per channel", {l3, k}, {0.f, 0.5f, 2.f}, {1.25f}, 1},
      {"kappa per channel", {l, k3}, {0.5f}, {1.f, -1.f, 0.f}, 1},
      {"axis 1", {l3, k3, ints("axis", {1})}, {0.f, 0.5f, 2.f}, {1.f, -1.f, 0.f}, 1},
      {"axis -1", {l3, k, ints("axis", {-1})}, {0.f, 0.5f, 2.f}, {1.25f}, -1},
      {"axis int64", {l3, k, field<int64_t>("axis", PluginFieldType::kINT64, {2})}, {0.f, 0.5f, 2.f}, {1.25f}, 2},
      {"axis of a scalar", {l, k, ints("axis", {3})}, {0.5f}, {1.25f}, 1},
      {"codes", {l, k, floats("scale_out", {0.05f})}, {0.5f}, {1.25f}, 1, 0.05f},
      {"codes, per channel", {floats("scale_out", {1e-30f}), l3, k, ints("axis", {-1})}, {0.f, 0.5f, 2.f}, {1.25f}, -1, 1e-30f},
      {"a node's own", {l, k, field<char>("plugin_version", PluginFieldType::kCHAR, {'1'})}, {0.5f}, {1.25f}, 1},
  };
}

bool holds(const PluginField& f, const char* name, const std::vector<float>& values) {
  return !std::strcmp(f.name, name) && f.type == PluginFieldType::kFLOAT32 &&
         f.length == static_cast<int32_t>(values.size()) &&
         std::memcmp(f.data, values.data(), values.size() * sizeof(float)) == 0;
}

void check_kept(const Good& good, const PluginFieldCollection& kept) {
  const bool with_axis = good.axis != 1, with_scale = good.scale != 0;
  const int32_t wanted = 2 + with_axis + with_scale;
  if (!check::expect(kept.nbFields == wanted, "%s: %d fields kept", good.name, kept.nbFields)) return;
  check::expect(holds(kept.fields[0], "lambda", good.lambda), "%s: lambda", good.name);
  check::expect(holds(kept.fields[1], "kappa", good.kappa), "%s: kappa", good.name);
  if (with_scale) check::expect(holds(kept.fields[wanted - 1], "scale_out", {good.scale}), "%s: scale", good.name);
  if (with_axis) {
    check::expect(!std::strcmp(kept.fields[2].name, "axis") &&
                      *static_cast<const int32_t*>(kept.fields[2].data) == good.axis,
                  "%s: axis", good.name);
  }
}

// An engine keeps the fields and a runtime makes the plugin again from them; clones and contexts keep them too.
void accepted() {
  for (const char* kind : {"APA", "AGLU"}) {
    for (const Good& good : good_fields()) {
      Said said;
      const Owned plugin = created(kind, good.fields);
      if (!check::expect(plugin && said.text().empty(), "%s refused: %s", good.name, said.text().c_str())) continue;
      const PluginFieldCollection* kept = runtime(*plugin).getFieldsToSerialize();
      check_kept(good, *kept);
      const std::string name = std::string(kind) + (good.scale > 0 ? "Codes" : "");
      const Owned again(creator(name).createPlugin(nullptr, kept, TensorRTPhase::kRUNTIME));
      const Owned cloned(plugin->clone()), attached(runtime(*plugin).attachToContext(nullptr));
      for (const Owned* copy : {&again, &cloned, &attached}) {
        if (!check::expect(*copy != nullptr, "%s: no copy", good.name)) continue;
        check_kept(good, *runtime(**copy).getFieldsToSerialize());
        check::expect(name == core(**copy).getPluginName(), "%s: another kind", good.name);
      }
    }
  }
}

struct Bad {
  const char* name;
  std::vector<Field> fields;
  const char* message;
  const char* creator = "";  // AGLU's, by name; else the one that the fields are for
};

std::vector<Bad> bad_fields() {
  const Field l = floats("lambda", {0.5f}), k = floats("kappa", {1.f}), l2 = floats("lambda", {1.f, 2.f});
  const Field axis = ints("axis", {1});
  Field null = l, negative_length = l, unnamed_data = floats("kappa", {1.f});
  null.bytes.clear();
  null.bytes.shrink_to_fit();
  negative_length.length = -3;
  return {
      {"none", {}, "no fields"},
      {"no kappa", {l}, "'kappa' is missing"},
      {"no lambda", {k}, "'lambda' is missing"},
      {"NaN", {floats("lambda", {std::nanf("")}), k}, "'lambda' holds nan"},
      {"infinite lambda", {floats("lambda", {kInfinity}), k}, "'lambda' holds inf"},
      {"infinite kappa", {l, floats("kappa", {-kInfinity})}, "'kappa' holds -inf"},
      {"NaN in the middle", {l, floats("kappa", {1.f, std::nanf(""), 1.f})}, "'kappa' holds nan"},
      {"too large for float32", {field<double>("lambda", PluginFieldType::kFLOAT64, {1e300}), k}, "finite float32"},
      {"negative lambda", {floats("lambda", {-1e-8f}), k}, "negative"},
      {"one negative lambda", {floats("lambda", {1.f, -1.f}), k}, "negative"},
      {"negative int32", {ints("lambda", {-1}), k}, "negative"},
      {"unequal lengths", {l2, floats("kappa", {1.f, 2.f, 3.f})}, "lengths 2 and 3"},
      {"length 0", {floats("lambda", {}), k}, "length 0"},
      {"length -3", {negative_length, k}, "length -3"},
      {"no data", {null, k}, "'lambda' has length 0"},
      {"float16", {field<uint16_t>("lambda", PluginFieldType::kFLOAT16, {0}), k}, "field type 0"},
      {"text", {l, field<char>("kappa", PluginFieldType::kCHAR, {'1'})}, "field type 6"},
      {"int64 lambda", {field<int64_t>("lambda", PluginFieldType::kINT64, {1}), k}, "field type 10"},
      {"float axis", {l, k, floats("axis", {1.f})}, "'axis' has field type 1"},
      {"two axes", {l, k, ints("axis", {1, 2})}, "'axis' has length 2"},
      {"axis 8", {l, k, ints("axis", {8})}, "'axis' is 8"},
      {"axis -9", {l, k, ints("axis", {-9})}, "'axis' is -9"},
      {"a scale, but no codes", {l, k, floats("scale_out", {1.f})}, "'scale_out' is unknown", "AGLU"},
      {"codes without a scale", {l, k}, "'scale_out' is missing", "AGLUCodes"},
      {"scale 0", {l, k, floats("scale_out", {0.f})}, "'scale_out' is 0"},
      {"negative scale", {l, k, floats("scale_out", {-0.1f})}, "'scale_out' is -0.1"},
      {"infinite scale", {l, k, floats("scale_out", {kInfinity})}, "'scale_out' is inf"},
      {"scale NaN", {l, k, floats("scale_out", {std::nanf("")})}, "'scale_out' is nan"},
      {"subnormal scale", {l, k, floats("scale_out", {1e-40f})}, "'scale_out' is 0"},
      {"scales a channel", {l, k, floats("scale_out", {0.1f, 0.1f})}, "'scale_out' has length 2"},
      {"no scale", {l, k, floats("scale_out", {})}, "'scale_out' has length 0"},
      {"integer scale", {l, k, ints("scale_out", {1})}, "'scale_out' has field type 5"},
      {"two scales", {l, k, floats("scale_out", {1.f}), floats("scale_out", {1.f})}, "'scale_out' is given twice"},
      {"unknown", {l, k, floats("beta", {1.f})}, "'beta' is unknown"},
      {"misspelt", {l, floats("Kappa", {1.f})}, "'Kappa' is unknown"},
      {"lambda twice", {l, k, l}, "'lambda' is given twice"},
      {"axis twice", {l, k, axis, axis}, "'axis' is given twice"},
  };
}

void refused() {
  for (const char* kind : {"APA", "AGLU"}) {
    for (TensorRTPhase phase : {TensorRTPhase::kBUILD, TensorRTPhase::kRUNTIME}) {
      for (const Bad& bad : bad_fields()) {
        Said said;
        const Owned plugin = created(kind, bad.fields, phase, bad.creator);
        check::expect(plugin == nullptr, "%s accepted", bad.name);
        check::expect(said.has(bad.message) && said.has(*bad.creator ? bad.creator : kind) && said.has("layer 3"), "%s: said %s", bad.name,
                      said.text().c_str());
      }
    }
  }
}

// What no caller should hand over.
void null_arguments() {
  Said said;
  IPluginCreatorV3One& c = creator("AGLU");
  const PluginFieldCollection lost{2, nullptr};
  const float one = 1;
  const PluginField unnamed[] = {{nullptr, &one, PluginFieldType::kFLOAT32, 1}};
  const PluginFieldCollection nameless{1, unnamed};
  for (const PluginFieldCollection* fields : {static_cast<const PluginFieldCollection*>(nullptr), &lost, &nameless}) {
    check::expect(Owned(c.createPlugin(nullptr, fields, TensorRTPhase::kBUILD)) == nullptr, "accepted");
  }
}

// Data need not be aligned to its type.
void unaligned_data() {
  std::vector<unsigned char> bytes(1 + sizeof(double));
  const double half = 0.5;
  std::memcpy(bytes.data() + 1, &half, sizeof half);
  const float one = 1;
  const PluginField fields[] = {{"lambda", bytes.data() + 1, PluginFieldType::kFLOAT64, 1},
                                {"kappa", &one, PluginFieldType::kFLOAT32, 1}};
  const PluginFieldCollection collection{2, fields};
  const Owned plugin(creator("APA").createPlugin("u", &collection, TensorRTPhase::kBUILD));
  check::expect(plugin && holds(runtime(*plugin).getFieldsToSerialize()->fields[0], "lambda", {0.5f}), "unaligned");
}

}  // namespace

int main(int argc, char** argv) {
  const check::Suite suites[] = {{"creators", creators},
                                 {"accepted", accepted},
                                 {"refused", refused},
                                 {"null_arguments", null_arguments},
                                 {"unaligned_data", unaligned_data}};
  return check::main_of(suites, argc, argv);
}
