#include "common/config/job_file.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "common/config/yaml_tree.h"

namespace espalier::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr char kJob[] = R"(display_name: "a job"
model:
  input_features: 64
  layers:
    - linear: {units: 32, activation: relu, dropout: 0.5}
    - linear:
        units: 10
  loss: mean_squared_error
data:
  dataset: digits
  partition: {kind: dirichlet, shards: 4, alpha: 0.5}
  label_column: -1
method:
  name: set
  parameters: {zeta: 0.3, epsilon: 13, fast: true, drop: signed, text: "7"}
training:
  optimizer: {kind: adam, learning_rate: 1e-3}
  schedule: {kind: step, milestones: [5, 8]}
federation:
  rounds: 10
  round_deadline: 1m30s
  on_quorum_loss: proceed
seed: 18446744073709551615
)";

std::vector<Violation> ViolationsOf(std::string_view yaml) {
  std::vector<Violation> violations;
  ParseJobFile(yaml, violations);
  return violations;
}

// "field: description" of each violation.
std::vector<std::string> Lines(const std::vector<Violation>& violations) {
  std::vector<std::string> lines;
  for (const Violation& violation : violations) {
    lines.push_back(violation.field + ": " + violation.description);
  }
  return lines;
}

TEST(JobFileTest, EveryKindOfFieldIsRead) {
  std::vector<Violation> violations;
  const v1::JobSpec spec = ParseJobFile(kJob, violations).spec;
  EXPECT_THAT(Lines(violations), IsEmpty());
  EXPECT_EQ(spec.display_name(), "a job");
  ASSERT_EQ(spec.model().layers_size(), 2);
  EXPECT_EQ(spec.model().layers(0).linear().activation(), v1::ACTIVATION_RELU);
  EXPECT_EQ(spec.model().layers(0).linear().dropout(), 0.5);
  EXPECT_EQ(spec.model().layers(1).linear().units(), 10);
  EXPECT_EQ(spec.model().loss(), v1::LOSS_MEAN_SQUARED_ERROR);
  EXPECT_EQ(spec.data().partition().kind(), v1::Partition::KIND_DIRICHLET);
  EXPECT_EQ(spec.data().label_column(), "-1");
  EXPECT_EQ(spec.training().optimizer().learning_rate(), 1e-3);
  EXPECT_THAT(spec.training().schedule().milestones(), ElementsAre(5, 8));
  EXPECT_EQ(spec.federation().round_deadline().seconds(), 90);
  EXPECT_EQ(spec.federation().on_quorum_loss(), v1::Federation::QUORUM_POLICY_PROCEED);
  EXPECT_EQ(spec.seed(), std::numeric_limits<uint64_t>::max());
}

TEST(JobFileTest, MethodParametersKeepTheirTypes) {
  std::vector<Violation> violations;
  const v1::JobSpec spec = ParseJobFile(kJob, violations).spec;
  const auto& parameters = spec.method().parameters();
  EXPECT_EQ(parameters.at("zeta").double_value(), 0.3);
  EXPECT_EQ(parameters.at("epsilon").int_value(), 13);
  EXPECT_TRUE(parameters.at("fast").bool_value());
  EXPECT_EQ(parameters.at("drop").string_value(), "signed");
  EXPECT_EQ(parameters.at("text").string_value(), "7");
}

TEST(JobFileTest, LinesAreRememberedForLaterErrors) {
  std::vector<Violation> violations;
  const JobFile file = ParseJobFile(kJob, violations);
  EXPECT_EQ(file.LineOf("federation.rounds"), 20);
  EXPECT_EQ(file.LineOf("model.layers[1].linear.units"), 7);
  EXPECT_EQ(file.LineOf("method.parameters.zeta"), 15);
  // Not in the file: where its surroundings are.
  EXPECT_EQ(file.LineOf("federation.quorum"), file.LineOf("federation"));
  EXPECT_EQ(file.LineOf("checkpoint.keep"), 0);
}

TEST(JobFileTest, AllMistakesAreReportedAtOnce) {
  const auto violations = ViolationsOf(R"(model:
  input_featurs: 64
  layers:
    - linear: {units: many, activation: rellu}
federation:
  rounds: 1.5
  round_deadline: soon
trainig: {}
)");
  EXPECT_THAT(
      Lines(violations),
      ElementsAre(
          "model.input_featurs: line 2: unknown field \"input_featurs\"; did you mean "
          "\"input_features\"?",
          HasSubstr("model.layers[0].linear.units: line 4: expected a whole number"),
          "model.layers[0].linear.activation: line 4: expected one of linear, relu, sigmoid, tanh, "
          "softmax, found \"rellu\"; did you mean \"relu\"?",
          HasSubstr("federation.rounds: line 6: expected a whole number from -2147483648 to "
                    "2147483647, found \"1.5\""),
          "federation.round_deadline: line 7: expected a duration such as 30s, 10m or 1h30m, found "
          "\"soon\"",
          "trainig: line 8: unknown field \"trainig\"; did you mean \"training\"?"));
}

struct BadFile {
  const char* name;
  std::string yaml;
  const char* expected;
};

class BadFileTest : public ::testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsRefusedWithAReason) {
  const auto violations = ViolationsOf(GetParam().yaml);
  ASSERT_FALSE(violations.empty());
  EXPECT_THAT(Lines(violations), ::testing::Contains(HasSubstr(GetParam().expected)));
}

std::string Repeated(const std::string& text, int count) {
  std::string result;
  for (int i = 0; i < count; ++i) result += text;
  return result;
}

INSTANTIATE_TEST_SUITE_P(
    Table, BadFileTest,
    ::testing::Values(
        BadFile{"Empty", "", "expected a job"}, BadFile{"OnlyComment", "# x\n", "expected a job"},
        BadFile{"Scalar", "hello", "expected a job"}, BadFile{"List", "- a\n- b", "expected a job"},
        BadFile{"NotYaml", "model: {a: [}", "this is not YAML"},
        BadFile{"UnclosedQuote", "model: \"abc", "this is not YAML"},
        BadFile{"TabIndent", "model:\n\tinput_features: 1", "this is not YAML"},
        BadFile{"TwoDocuments", "seed: 1\n---\nseed: 2\n", "second one"},
        BadFile{"Binary", std::string("seed: \0", 7), "expected UTF-8 text"},
        BadFile{"Latin1", "display_name: caf\xe9", "line 1: expected UTF-8 text"},
        BadFile{"OverlongUtf8", "display_name: \xc0\xaf", "expected UTF-8 text"},
        BadFile{"TooLong", std::string(kMaxYamlBytes + 1, ' '), "at most 1048576 bytes"},
        BadFile{"TooDeep", Repeated("[", 1000), "more than 32 levels"},
        BadFile{"TooDeepMaps", Repeated("{a: ", 1000), "more than 32 levels"},
        BadFile{"TooMany", "a: [" + Repeated("1,", 200'000) + "1]", "more than 100000 values"},
        BadFile{"Alias", "seed: &x 1\ndisplay_name: *x\n", "aliases"},
        BadFile{"DuplicateKey", "seed: 1\nseed: 2\n", "line 2: \"seed\" is given twice"},
        BadFile{"MapAsKey", "{a: 1}: 2\n", "expected a field name"},
        BadFile{"MapForNumber", "seed: {a: 1}", "found a map"},
        BadFile{"NumberForMap", "model: 3", "expected a map with fields of input_features"},
        BadFile{"ScalarForList", "model: {layers: 3}", "expected a list"},
        BadFile{"NothingForMap", "training:", "found nothing"},
        BadFile{"TildeForNumber", "seed: ~", "found nothing"},
        BadFile{"QuotedNumber", "seed: \"1\"", "expected a whole number"},
        BadFile{"NegativeSeed", "seed: -1", "expected a whole number from 0"},
        BadFile{"IntegerOverflow", "federation: {rounds: 99999999999}", "found \"99999999999\""},
        BadFile{"WordForBool", "evaluation: {central: yes}", "expected true or false"},
        BadFile{"EnumNumber", "model: {loss: 1}", "expected one of cross_entropy"},
        BadFile{"EnumProtoName", "model: {loss: LOSS_CROSS_ENTROPY}", "expected one of"},
        BadFile{"EnumUnspecified", "model: {loss: unspecified}", "expected one of"},
        BadFile{"NoUnit", "federation: {round_deadline: 30}", "expected a duration"},
        BadFile{"ListAsParameter", "method: {parameters: {zeta: [1]}}", "found a list"},
        BadFile{"ParametersAsList", "method: {parameters: [1]}", "expected a map of parameters"}),
    [](const auto& info) { return info.param.name; });

TEST(JobFileTest, OverridesReplaceValues) {
  std::vector<Violation> violations;
  v1::JobSpec spec = ParseJobFile(kJob, violations).spec;
  for (const char* assignment :
       {"federation.rounds=5", "model.layers[1].linear.units=20", "method.parameters.zeta=0.2",
        "training.schedule.milestones=[2, 3]", "federation.round_deadline=10m",
        "data.partition={kind: iid, shards: 2}", "checkpoint.keep=7", "method.name=static"}) {
    ApplyOverride(assignment, spec, violations);
  }
  EXPECT_THAT(Lines(violations), IsEmpty());
  EXPECT_EQ(spec.federation().rounds(), 5);
  EXPECT_EQ(spec.model().layers(1).linear().units(), 20);
  EXPECT_EQ(spec.method().parameters().at("zeta").double_value(), 0.2);
  EXPECT_EQ(spec.method().parameters().at("epsilon").int_value(), 13);
  EXPECT_THAT(spec.training().schedule().milestones(), ElementsAre(2, 3));
  EXPECT_EQ(spec.federation().round_deadline().seconds(), 600);
  EXPECT_EQ(spec.data().partition().alpha(), 0);
  EXPECT_EQ(spec.checkpoint().keep(), 7);
  EXPECT_EQ(spec.method().name(), "static");
}

TEST(JobFileTest, NullLeavesAFieldOut) {
  std::vector<Violation> violations;
  v1::JobSpec spec = ParseJobFile(kJob, violations).spec;
  ASSERT_TRUE(spec.has_federation());
  for (const char* assignment : {"federation=null", "method.parameters=null", "seed=null"}) {
    ApplyOverride(assignment, spec, violations);
  }
  EXPECT_THAT(Lines(violations), IsEmpty());
  EXPECT_FALSE(spec.has_federation());
  EXPECT_TRUE(spec.method().parameters().empty());
  EXPECT_EQ(spec.seed(), 0);
}

TEST(JobFileTest, BadOverridesAreExplained) {
  const std::pair<const char*, const char*> cases[] = {
      {"rounds", "expected a field and its value"},
      {"=5", "expected a field and its value"},
      {"federation.round=5", "did you mean \"rounds\"?"},
      {"federation..rounds=5", "expected a path"},
      {"federation.rounds.x=5", "is a value and has no fields"},
      {"federation[0].rounds=5", "is not a list"},
      {"model.layers[9].linear.units=5", "is a list of 2"},
      {"model.layers.linear.units=5", "is a list of 2"},
      {"model.layers[0]=5", "cannot be replaced"},
      {"model.layers[x].linear.units=5", "expected a path"},
      {"federation.rounds=many", "expected a whole number"},
      {"federation.rounds={", "not YAML"},
      {"federation.rounds=", "expected a value, or null"},
  };
  for (const auto& [assignment, expected] : cases) {
    std::vector<Violation> violations;
    v1::JobSpec spec = ParseJobFile(kJob, violations).spec;
    ApplyOverride(assignment, spec, violations);
    EXPECT_THAT(Lines(violations), ElementsAre(HasSubstr(expected))) << assignment;
  }
}

// What the reader relies on: a new kind of field needs code in MessageReader.
TEST(JobFileTest, EveryFieldOfAJobCanBeWritten) {
  std::set<const google::protobuf::Descriptor*> seen;
  std::vector<const google::protobuf::Descriptor*> queue = {v1::JobSpec::descriptor()};
  using Field = google::protobuf::FieldDescriptor;
  const std::set<Field::CppType> scalars = {
      Field::CPPTYPE_BOOL,   Field::CPPTYPE_INT32,  Field::CPPTYPE_INT64, Field::CPPTYPE_UINT64,
      Field::CPPTYPE_DOUBLE, Field::CPPTYPE_STRING, Field::CPPTYPE_ENUM};
  while (!queue.empty()) {
    const auto* type = queue.back();
    queue.pop_back();
    if (!seen.insert(type).second) continue;
    for (int i = 0; i < type->field_count(); ++i) {
      const Field& field = *type->field(i);
      if (field.is_map()) {
        EXPECT_EQ(field.full_name(), "espalier.v1.MethodSpec.parameters");
      } else if (field.cpp_type() == Field::CPPTYPE_MESSAGE) {
        if (field.message_type()->full_name() != "google.protobuf.Duration") {
          queue.push_back(field.message_type());
        }
      } else {
        EXPECT_TRUE(scalars.contains(field.cpp_type())) << field.full_name();
        EXPECT_TRUE(!field.is_repeated() || field.cpp_type() == Field::CPPTYPE_INT32 ||
                    field.cpp_type() == Field::CPPTYPE_DOUBLE)
            << field.full_name();
      }
    }
  }
  EXPECT_GT(seen.size(), 8u);
}

TEST(JobFileTest, EnumWordsAreShort) {
  EXPECT_THAT(EnumWords(*v1::Federation::QuorumPolicy_descriptor()),
              ElementsAre("extend", "proceed", "fail"));
  EXPECT_THAT(EnumWords(*v1::Loss_descriptor()),
              ElementsAre("cross_entropy", "binary_cross_entropy", "mean_squared_error"));
}

}  // namespace
}  // namespace espalier::config
