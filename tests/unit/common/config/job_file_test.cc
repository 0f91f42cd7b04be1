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
  // One mistake is one problem.
  EXPECT_THAT(Lines(violations), ElementsAre(HasSubstr(GetParam().expected)));
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
        BadFile{"TabAlone", "model:\n  a: 1\n\tb: 2", "line 3, column 1: found a tab"},
        BadFile{"Utf16",
                std::string("\xff\xfe"
                            "a\0",
                            4),
                "found UTF-16"},
        BadFile{"NoBreakSpace", "seed: \u00a01", "line 1, column 7"},
        BadFile{"NoBreakSpaceBeforeName", "seed: 1\n\u00a0\u00a0model: {}", "U+00A0"},
        BadFile{"TypographicQuotes", "display_name: \u201ca\u201d", "U+201C"},
        BadFile{"MergeKey", "training:\n  <<: {batch_size: 8}", "line 2: merge keys"},
        BadFile{"MergeKeyOfAnAlias", "data: &d {}\nmodel:\n  <<: *d", "line 3: merge keys"},
        BadFile{"Tag", "seed: !!str 5", "column 7: tags"},
        BadFile{"TagOfAMap", "model: !thing {}", "tags"},
        BadFile{"SecondDocument", "seed: 1\n---\nseed: 2\n", "line 2: expected one YAML document"},
        BadFile{"Underscore", "seed: 1_000", "found \"1_000\"; write 1000"},
        BadFile{
            "DecimalComma", "training: {optimizer: {learning_rate: 0,1, momentum: 0.9}}",
            "training.optimizer.learning_rate: line 1: expected a number, found \"0,1\"; write a "
            "decimal point: 0.1"},
        BadFile{"DecimalCommaInABlock", "training:\n  optimizer:\n    learning_rate: 0,1",
                "write a decimal point: 0.1"},
        BadFile{"Octal11", "seed: 010", "write it without the leading 0"},
        BadFile{"Octal12OfNoDigits", "seed: 0o9", "expected a whole number"},
        BadFile{"HexWithSign", "seed: 0x-1", "expected a whole number"},
        BadFile{"Yes", "evaluation: {central: yes}", "found \"yes\"; write true"},
        BadFile{"Off", "evaluation: {central: Off}", "found \"Off\"; write false"},
        BadFile{"InfWithoutPoint", "training: {optimizer: {learning_rate: inf}}", "found \"inf\""},
        BadFile{"SeedTooBig", "seed: 18446744073709551616", "to 18446744073709551615"},
        BadFile{"ExponentForWhole", "federation: {rounds: 1e1}", "expected a whole number"},
        BadFile{"Unit", "federation: {round_deadline: 90}", "90 seconds are 90s"},
        BadFile{"NoSpaceAfterColon", "federation: {rounds:5}", "a space is missing"},
        BadFile{"NullWord", "seed: NULL", "found nothing"},
        BadFile{"NotYaml", "model: {a: [}", "this is not YAML"},
        BadFile{"UnclosedQuote", "data: {}\nmodel: \"abc\nseed: 1\n",
                "line 2, column 8: a quotation mark that is not closed"},
        BadFile{"UnclosedSingleQuote", "model: 'abc\nseed: 1\n", "not closed"},
        BadFile{"NoBreakSpaceAsIndent", "training:\n  a: 1\n\u00a0 batch_size: 16\n  b: 1\n",
                "line 3, column 1: found a space"},
        BadFile{"TabIndent", "model:\n\tinput_features: 1", "line 2, column 1: found a tab"},
        BadFile{"TwoDocuments", "seed: 1\n---\nseed: 2\n", "second one"},
        BadFile{"Binary", std::string("seed: \0", 7), "expected UTF-8 text"},
        BadFile{"Latin1", "display_name: caf\xe9", "line 1, column 18: expected UTF-8 text"},
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

TEST(JobFileTest, SpellingsOfYaml12AreRead) {
  std::vector<Violation> violations;
  const v1::JobSpec spec =
      ParseJobFile(
          "\ufeff---\r\n# \u00a0 \u201cany\u201d\ttext\r\nseed: 0x10\r\n"
          "display_name: \"a\u00a0b\"\r\n"
          "federation: {rounds: 0o20}\r\n"
          "evaluation: {central: TRUE}\r\n"
          "training: {optimizer: {learning_rate: .1, momentum: 9e-1}}\r\n"
          "method: {parameters: {a: True, b: 0x1F, c: \"7\", d: inf}}\r\n...\r\n",
          violations)
          .spec;
  EXPECT_THAT(Lines(violations), IsEmpty());
  EXPECT_EQ(spec.seed(), 16);
  EXPECT_EQ(spec.display_name(), "a\u00a0b");
  EXPECT_EQ(spec.federation().rounds(), 16);
  EXPECT_TRUE(spec.evaluation().central());
  EXPECT_EQ(spec.training().optimizer().learning_rate(), 0.1);
  EXPECT_EQ(spec.training().optimizer().momentum(), 0.9);
  EXPECT_TRUE(spec.method().parameters().at("a").bool_value());
  EXPECT_EQ(spec.method().parameters().at("b").int_value(), 31);
  EXPECT_EQ(spec.method().parameters().at("c").string_value(), "7");
  EXPECT_EQ(spec.method().parameters().at("d").string_value(), "inf");
}

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
      {"federation.rounds={", "federation.rounds: line 1"},
      {"federation.rounds=1_0", "write 10"},
      {"training.optimizer.learning_rate=0,1", "write a decimal point: 0.1"},
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
                    field.cpp_type() == Field::CPPTYPE_DOUBLE ||
                    field.cpp_type() == Field::CPPTYPE_STRING)
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
              ElementsAre("cross_entropy", "binary_cross_entropy", "mean_squared_error",
                          "mean_absolute_error", "huber"));
}

}  // namespace
}  // namespace espalier::config
