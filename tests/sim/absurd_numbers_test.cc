// No number of a job, however large, small or senseless, takes the coordinator long or ends it.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ctime>
#include <functional>
#include <limits>
#include <set>

#include "common/base/status.h"
#include "common/config/job_file.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using testing::IsEmpty;

// Of the processor, so that other processes do not count. What this finds takes seconds or for
// ever, also when sanitizers make everything slower.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr double kLongestSeconds = 1;
#else
constexpr double kLongestSeconds = 0.05;
#endif

constexpr char kRest[] = R"(
training: {optimizer: {kind: sgd, learning_rate: 0.1, momentum: 0.9}, local_steps: 5}
federation: {rounds: 3}
)";

constexpr char kLayers[] = R"(
model: {input_features: 8, layers: [{linear: {units: 6, activation: relu}}, {linear: {units: 3}}]}
data: {dataset: toy, partition: {kind: iid, shards: 4}}
)";
constexpr char kImages[] = R"(
model:
  input_image: {channels: 1, height: 8, width: 8}
  layers:
    - conv2d: {channels: 4, activation: relu}
    - batch_norm: {}
    - max_pool: {}
    - residual:
        body: [{conv2d: {channels: 4, standardize: true}}, {batch_norm: {}}]
        shortcut: [{avg_pool: {kernel: 1}}]
    - global_avg_pool: {}
    - linear: {units: 10}
data: {dataset: toy, partition: {kind: dirichlet, shards: 4}, channel_mean: [0.5], channel_std: [0.5]}
)";
constexpr char kNamed[] = R"(
model: {name: resnet8, parameters: {width: 0.25}}
data: {dataset: toy, partition: {kind: classes, shards: 4}}
)";
constexpr char kTransformer[] = R"(
model: {transformer: {vocabulary: 256, hidden: 32, blocks: 2, heads: 4}}
data: {dataset: toy, partition: {shards: 4}, text: {context: 16}}
)";
constexpr char kLightGcn[] = R"(
model: {recommender: {users: 50, items: 40, lightgcn: {}}}
data: {dataset: toy, partition: {shards: 4}, interactions: {split: ratio}}
)";
constexpr char kNeuMf[] = R"(
model: {recommender: {users: 50, items: 40, neumf: {hidden: [8, 4]}}}
data: {dataset: toy, partition: {shards: 4}}
)";
constexpr char kMultVae[] = R"(
model: {recommender: {users: 50, items: 40, multvae: {hidden: 8, latent: 4}}}
data: {dataset: toy, partition: {shards: 4}, interactions: {split: held_out_users}}
)";
constexpr char kAutoInt[] = R"(
model: {recommender: {users: 50, items: 40, autoint: {fields: [{name: age, values: 7}]}}}
data: {dataset: toy, partition: {shards: 4}}
)";

v1::JobSpec Spec(const std::string& model, const std::string& method) {
  std::vector<config::Violation> violations;
  v1::JobSpec spec =
      config::ParseJobFile(model + "method: {name: " + method + "}\n" + kRest, violations).spec;
  for (const auto& violation : violations) {
    ADD_FAILURE() << violation.field << ": " << violation.description;
  }
  return spec;
}

struct Verdict {
  bool accepted = false;
  std::vector<config::Violation> violations;
};

class AbsurdNumbersTest : public testing::Test {
 protected:
  // What CreateJob says of it; the test fails when that takes long.
  Verdict Ask(const v1::JobSpec& spec, const std::string& what) {
    v1::CreateJobRequest request;
    *request.mutable_spec() = spec;
    request.set_validate_only(true);
    Verdict verdict;
    const std::clock_t begin = std::clock();
    const auto job = sim_.Create(request, verdict.violations);
    const double took = static_cast<double>(std::clock() - begin) / CLOCKS_PER_SEC;
    EXPECT_LT(took, kLongestSeconds) << what;
    verdict.accepted = job.ok();
    return verdict;
  }

  Simulation sim_;
};

// A field that can be changed, in any copy of one spec.
struct Place {
  std::string path;
  const FieldDescriptor* field;
  std::function<Message*(v1::JobSpec&)> message;
};

// Items are added to empty lists and messages where there are none, but never a second kind of a
// oneof beside the one that is there.
void Collect(const Descriptor& type, const Message* present, const std::string& path,
             const std::function<Message*(v1::JobSpec&)>& get, std::vector<Place>& places) {
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor* field = type.field(i);
    const std::string name = path.empty() ? field->name() : path + "." + field->name();
    if (field->is_map()) continue;
    if (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
      places.push_back({name, field, get});
      continue;
    }
    const bool is_set =
        present != nullptr &&
        (field->is_repeated() ? present->GetReflection()->FieldSize(*present, field) > 0
                              : present->GetReflection()->HasField(*present, field));
    if (field->real_containing_oneof() != nullptr && !is_set) continue;
    if (field->is_repeated()) {
      for (int k = 0; is_set && k < present->GetReflection()->FieldSize(*present, field); ++k) {
        Collect(
            *field->message_type(),
            &present->GetReflection()->GetRepeatedMessage(*present, field, k),
            name + "[" + std::to_string(k) + "]",
            [get, field, k](v1::JobSpec& spec) {
              Message* parent = get(spec);
              return parent->GetReflection()->MutableRepeatedMessage(parent, field, k);
            },
            places);
      }
      continue;
    }
    Collect(
        *field->message_type(),
        is_set ? &present->GetReflection()->GetMessage(*present, field) : nullptr, name,
        [get, field](v1::JobSpec& spec) {
          Message* parent = get(spec);
          return parent->GetReflection()->MutableMessage(parent, field);
        },
        places);
  }
}

std::vector<Place> PlacesOf(const v1::JobSpec& spec) {
  std::vector<Place> places;
  Collect(
      *v1::JobSpec::descriptor(), &spec, "", [](v1::JobSpec& copy) { return &copy; }, places);
  return places;
}

using Setter = std::function<void(v1::JobSpec&)>;

struct Absurdity {
  std::string value;
  bool must_be_refused = false;
  Setter set;
};

template <typename T, typename Set, typename Add>
Absurdity With(const Place& place, T value, bool refused, const Set& set, const Add& add) {
  return {std::to_string(value), refused, [place, value, set, add](v1::JobSpec& spec) {
            Message* message = place.message(spec);
            const Reflection* reflection = message->GetReflection();
            if (!place.field->is_repeated()) {
              (reflection->*set)(message, place.field, value);
              return;
            }
            reflection->ClearField(message, place.field);
            (reflection->*add)(message, place.field, value);
          }};
}

std::vector<Absurdity> AbsurditiesOf(const Place& place) {
  std::vector<Absurdity> all;
  switch (place.field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      for (const int32_t value :
           {std::numeric_limits<int32_t>::min(), -1, 0, 1, 1'000'000,
            std::numeric_limits<int32_t>::max() / 2, std::numeric_limits<int32_t>::max()}) {
        const bool outside = value == std::numeric_limits<int32_t>::min() ||
                             value == std::numeric_limits<int32_t>::max();
        all.push_back(With(place, value, outside, &Reflection::SetInt32, &Reflection::AddInt32));
      }
      return all;
    case FieldDescriptor::CPPTYPE_INT64:
      for (const int64_t value :
           {std::numeric_limits<int64_t>::min(), int64_t{-1}, int64_t{0}, int64_t{1'000'000},
            (int64_t{1} << 31) - 1, int64_t{1} << 32, int64_t{1} << 62,
            std::numeric_limits<int64_t>::max() / 2, std::numeric_limits<int64_t>::max()}) {
        const bool outside = value == std::numeric_limits<int64_t>::min() || value > 1e15;
        all.push_back(With(place, value, outside, &Reflection::SetInt64, &Reflection::AddInt64));
      }
      return all;
    case FieldDescriptor::CPPTYPE_DOUBLE:
      for (const double value :
           {-1e308, -1.0, 0.0, 1e-308, 1.0, 1e12, 1e308, std::numeric_limits<double>::quiet_NaN(),
            std::numeric_limits<double>::infinity(), -std::numeric_limits<double>::infinity()}) {
        const bool outside = !(std::abs(value) < 1e300) || (value != 0 && std::abs(value) < 1e-300);
        all.push_back(With(place, value, outside, &Reflection::SetDouble, &Reflection::AddDouble));
      }
      return all;
    case FieldDescriptor::CPPTYPE_ENUM:
      for (const int value : {-1, 99, std::numeric_limits<int32_t>::max()}) {
        all.push_back(
            With(place, value, true, &Reflection::SetEnumValue, &Reflection::AddEnumValue));
      }
      return all;
    case FieldDescriptor::CPPTYPE_UINT64:  // the seed, which may be anything
      return {With(place, std::numeric_limits<uint64_t>::max(), false, &Reflection::SetUInt64,
                   &Reflection::AddUInt64)};
    default:
      return all;
  }
}

struct Base {
  const char* model;
  std::vector<std::string> methods;
};

const std::vector<Base>& Bases() {
  static const std::vector<Base> bases = {
      {kLayers, {"dense", "set", "snip", "feddst, parameters: {density: 0.5}"}},
      {kImages, {"static", "prunefl", "fedtiny, parameters: {density: 0.5}"}},
      {kNamed, {"rigl", "gmp"}},
      {kTransformer, {"dense", "static"}},
      {kLightGcn, {"dsl"}},
      {kNeuMf, {"dense"}},
      {kMultVae, {"set"}},
      {kAutoInt, {"dsl", "dense"}},
  };
  return bases;
}

TEST_F(AbsurdNumbersTest, EveryNumberOfEveryFieldIsJudgedQuickly) {
  for (const Base& base : Bases()) {
    for (const std::string& method : base.methods) {
      const v1::JobSpec spec = Spec(base.model, method);
      const Verdict valid = Ask(spec, "as it is");
      EXPECT_TRUE(valid.accepted) << method << base.model
                                  << (valid.violations.empty()
                                          ? ""
                                          : valid.violations[0].field + ": " +
                                                valid.violations[0].description);
      for (const Place& place : PlacesOf(spec)) {
        for (const Absurdity& absurdity : AbsurditiesOf(place)) {
          v1::JobSpec changed = spec;
          absurdity.set(changed);
          const std::string what = method + " " + place.path + "=" + absurdity.value;
          const Verdict verdict = Ask(changed, what);
          EXPECT_FALSE(verdict.accepted && absurdity.must_be_refused) << what << base.model;
          EXPECT_TRUE(verdict.accepted || !verdict.violations.empty()) << what;
        }
      }
    }
  }
}

// Two at once: what one number allows must not be what another one multiplies without a bound.
TEST_F(AbsurdNumbersTest, LargestAllowedNumbersTogetherAreJudgedQuickly) {
  const std::vector<std::pair<const char*, std::vector<const char*>>> cases = {
      {kTransformer,
       {"model.transformer={vocabulary: 1000000, hidden: 65536, blocks: 1000, heads: 1024, "
        "intermediate: 1000000, untied: true}"}},
      {kAutoInt,
       {"model.recommender={users: 100000000, items: 100000000, autoint: {dimensions: 4096, "
        "layers: 8, heads: 64, units: 1024, fields: [{name: a, values: 100000000}]}}"}},
      {kMultVae,
       {"model.recommender={users: 100000000, items: 100000000, multvae: {hidden: 100000, "
        "latent: 100000}}"}},
      {kLayers, {"model.layers[0].linear.units=10000000", "model.input_features=2147483646"}},
      {kImages, {"model.input_image={channels: 21, height: 10000, width: 10000}"}},
      {kLayers,
       {"data.partition.shards=100000", "federation.rounds=1000000",
        "training.local_steps=1000000000", "aggregation.rule=median"}},
      {kNamed, {"model.parameters.width=16", "model.parameters.classes=10000000"}},
  };
  for (const auto& [model, overrides] : cases) {
    for (const char* method : {"dense", "static", "set", "rigl", "prunefl", "fedtiny", "snip"}) {
      v1::JobSpec spec = Spec(model, method);
      std::vector<config::Violation> violations;
      for (const char* assignment : overrides) {
        config::ApplyOverride(assignment, spec, violations);
      }
      ASSERT_THAT(violations, IsEmpty());
      Ask(spec, std::string(method) + " " + overrides[0]);
    }
  }
}

// Blocks or layers without a bound once were listed, by name, before they were refused.
TEST_F(AbsurdNumbersTest, BlocksAndLayersBeyondAllMemoryAreRefused) {
  v1::JobSpec blocks = Spec(kTransformer, "rigl");
  blocks.mutable_model()->mutable_transformer()->set_blocks(2'000'000'000);
  const Verdict refused = Ask(blocks, "blocks");
  ASSERT_EQ(refused.violations.size(), 1u);
  EXPECT_EQ(refused.violations[0].field, "model.transformer.blocks");
  v1::JobSpec layers = Spec(kAutoInt, "dsl");
  layers.mutable_model()->mutable_recommender()->mutable_autoint()->set_layers(2'147'483'647);
  EXPECT_EQ(Ask(layers, "layers").violations[0].field, "model.recommender.autoint.layers");
}

TEST_F(AbsurdNumbersTest, MistakesInParametersAreReportedBesideThoseInNumbers) {
  v1::JobSpec spec = Spec(kTransformer, "rigl");
  spec.mutable_model()->mutable_transformer()->set_blocks(2'000'000'000);
  (*spec.mutable_method()->mutable_parameters())["alpha"].set_double_value(7);
  std::set<std::string> fields;
  for (const auto& violation : Ask(spec, "both").violations) fields.insert(violation.field);
  EXPECT_THAT(fields, testing::ElementsAre("method.parameters.alpha", "model.transformer.blocks"));
}

TEST_F(AbsurdNumbersTest, LongTextsAndListsAreRefusedBeforeTheyAreRead) {
  const std::string text(3'000'000, 'x');
  for (const Place& place : PlacesOf(Spec(kImages, "static"))) {
    v1::JobSpec spec = Spec(kImages, "static");
    Message* message = place.message(spec);
    const Reflection& reflection = *message->GetReflection();
    if (place.path.find("agreement") != std::string::npos) continue;  // the coordinator's own
    if (place.field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      if (place.field->is_repeated()) {
        reflection.AddString(message, place.field, text);
      } else {
        reflection.SetString(message, place.field, text);
      }
    } else if (place.field->is_repeated()) {
      for (int i = 0; i < 300'000; ++i) {
        if (place.field->cpp_type() == FieldDescriptor::CPPTYPE_DOUBLE) {
          reflection.AddDouble(message, place.field, 1);
        } else {
          reflection.AddInt32(message, place.field, 1);
        }
      }
    } else {
      continue;
    }
    const Verdict verdict = Ask(spec, place.path);
    ASSERT_EQ(verdict.violations.size(), 1u) << place.path;
    EXPECT_EQ(verdict.violations[0].field, place.path);
  }
  v1::JobSpec layers = Spec(kLayers, "static");
  for (int i = 0; i < 200'000; ++i) layers.mutable_model()->add_layers()->mutable_flatten();
  EXPECT_EQ(Ask(layers, "layers").violations.size(), 1u);
  v1::JobSpec deep = Spec(kImages, "static");
  v1::Layer* layer = deep.mutable_model()->mutable_layers(3);
  for (int i = 0; i < 40; ++i) layer = layer->mutable_residual()->add_body();
  EXPECT_EQ(Ask(deep, "depth").violations.size(), 1u);
}

// Every number that a method declares has both bounds, and holds them.
TEST_F(AbsurdNumbersTest, EveryParameterOfEveryMethodIsJudgedQuickly) {
  const auto registry = server::methods::MethodRegistry::Builtin();
  for (const auto& method : registry.all()) {
    const v1::JobSpec spec = Spec(kLayers, method.name);
    for (const config::Parameter& parameter : method.parameters) {
      const bool whole = std::holds_alternative<int64_t>(parameter.default_value);
      if (!whole && !std::holds_alternative<double>(parameter.default_value)) continue;
      const std::string what = method.name + " " + parameter.name;
      EXPECT_TRUE(std::isfinite(parameter.min) && std::isfinite(parameter.max)) << what;
      std::vector<v1::Value> values(15);
      size_t next = 0;
      for (const double value :
           {parameter.min, parameter.max, -1e308, 1e308, 1e-308, 0.0,
            std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
        values[next++].set_double_value(value);
      }
      for (const int64_t value :
           {static_cast<int64_t>(parameter.min), static_cast<int64_t>(parameter.max), int64_t{-1},
            int64_t{1}, std::numeric_limits<int64_t>::min(), std::numeric_limits<int64_t>::max()}) {
        values[next++].set_int_value(value);
      }
      values[next].set_string_value(std::string(1000, 'x'));
      for (const v1::Value& value : values) {
        v1::JobSpec changed = spec;
        (*changed.mutable_method()->mutable_parameters())[parameter.name] = value;
        const Verdict verdict = Ask(changed, what);
        const double number =
            value.has_int_value() ? static_cast<double>(value.int_value()) : value.double_value();
        const bool outside = !(number >= parameter.min && number <= parameter.max);
        EXPECT_FALSE(verdict.accepted && outside) << what << " = " << number;
      }
    }
  }
}

}  // namespace
}  // namespace espalier::test
