#include "client/lib/job_text.h"

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/duration.pb.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "client/json/json.h"
#include "client/lib/client.h"
#include "common/base/status.h"
#include "common/config/job_file.h"
#include "common/config/validate.h"

namespace espalier::client {
namespace {

using ::google::protobuf::util::MessageDifferencer;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kJob[] = R"(model:
  input_features: 64
  layers: [{linear: {units: 10}}]
data: {dataset: digits, partition: {shards: 3}}
method: {name: dense}
training: {optimizer: {learning_rate: 0.1}}
federation: {rounds: 2}
)";

// A job as -o json, -o yaml and --spec print it.
std::vector<std::string> Written(const v1::JobSpec& spec) {
  return {ToJson(spec), ToYaml(spec), ToJson(JsonOf(spec, Unset::kLeftOut)),
          ToYaml(JsonOf(spec, Unset::kLeftOut))};
}

TEST(JobTextTest, ValidJobIsRead) {
  const auto spec = ReadJob(kJob, "job.yaml", {"federation.rounds=7"});
  ASSERT_TRUE(spec.ok()) << spec.status();
  EXPECT_EQ(spec->federation().rounds(), 7);
}

TEST(JobTextTest, OverrideThatMakesItInvalidIsReported) {
  const auto spec = ReadJob(kJob, "job.yaml", {"federation.rounds=0"});
  EXPECT_EQ(base::ReasonOf(spec.status()), "JOB_FILE_INVALID");
  EXPECT_THAT(base::MessageOf(spec.status()), HasSubstr("\"job.yaml\" has 1 problem;"));
}

TEST(JobTextTest, ErrorsOfTheServerGetTheLinesOfTheFile) {
  const absl::Status error =
      client::WithViolations(base::InvalidArgument("JOB_INVALID", "the job has 2 problems"),
                             {{"method.name", "unknown method"}, {"checkpoint.keep", "bad"}});
  const auto violations = ViolationsOf(WithLines(error, kJob, "job.yaml", {}));
  ASSERT_EQ(violations.size(), 2u);
  EXPECT_EQ(violations[0].description, "line 5: unknown method");
  EXPECT_EQ(violations[1].description, "bad");
}

TEST(JobTextTest, OverriddenFieldsAreNotBlamedOnTheFile) {
  const auto spec = ReadJob(kJob, "job.yaml", {"federation.rounds=0"});
  const auto violations = ViolationsOf(spec.status());
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].description, "--set: must be 1..1,000,000, found 0");
}

TEST(JobTextTest, OtherErrorsStayAsTheyAre) {
  const absl::Status error = base::NotFound("X", "y");
  EXPECT_EQ(WithLines(error, kJob, "job.yaml", {}), error);
}

// Every kind of field, and values that a careless writer would change.
constexpr char kEverything[] = R"(display_name: "no: 1, 'two' \"three\" # \u00e4\n\t\u0001 true"
model:
  input_features: 64
  layers: [{linear: {units: 100, activation: relu, no_bias: true}}, {linear: {units: 10}}]
data: {dataset: digits, scale: 0.1, label_column: 0, partition: {kind: dirichlet, shards: 3}}
method:
  name: set
  parameters: {whole: 1, real: 1.0, tiny: 1e-300, flag: false, word: zero, digits: "7", yes: "true"}
training:
  optimizer: {kind: adam, learning_rate: 0.30000000000000004}
  schedule: {kind: step, milestones: [3, 5]}
federation: {rounds: 7, round_deadline: 1h30m0.5s, min_workers: 2, max_retries: 0}
evaluation: {federated: true}
seed: 18446744073709551615
)";

TEST(JobTextTest, WrittenJobIsReadAsTheSameJob) {
  const auto spec = ReadJob(kEverything, "job.yaml", {});
  ASSERT_TRUE(spec.ok()) << spec.status();
  for (const std::string& text : Written(*spec)) {
    const auto again = ReadJob(text, "again.yaml", {});
    ASSERT_TRUE(again.ok()) << again.status() << text;
    EXPECT_TRUE(MessageDifferencer::Equals(*again, *spec)) << text;
  }
}

TEST(JobTextTest, EveryExampleIsWrittenAsTheSameJob) {
  const std::filesystem::path source = std::getenv("ESPALIER_SOURCE_DIR");
  int examples = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source / "docs/examples")) {
    if (entry.path().extension() != ".yaml") continue;
    ++examples;
    std::ifstream file(entry.path());
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    auto spec = ReadJob(text, "job.yaml", {});
    ASSERT_TRUE(spec.ok()) << entry.path() << spec.status();
    // As the coordinator keeps it.
    config::ApplyDefaults(*spec);
    for (const std::string& written : Written(*spec)) {
      const auto again = ReadJob(written, "again.yaml", {});
      ASSERT_TRUE(again.ok()) << entry.path() << again.status();
      EXPECT_TRUE(MessageDifferencer::Equals(*again, *spec)) << entry.path();
    }
  }
  EXPECT_GT(examples, 10);
}

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

void FillMessage(Message& message, int variant, int depth);

// A value of a field's kind that is not its default, or one item of it.
void FillField(Message& message, const FieldDescriptor& field, int variant, int depth) {
  const auto& reflection = *message.GetReflection();
  const bool list = field.is_repeated();
  const int number = field.number() + variant;
  const std::string text = "ä \"x\" \\ \n\t\x1b\xC2\x9B\xE2\x80\xAE: # - ";
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return list ? reflection.AddBool(&message, &field, true)
                  : reflection.SetBool(&message, &field, true);
    case FieldDescriptor::CPPTYPE_INT32:
      return list ? reflection.AddInt32(&message, &field, -number)
                  : reflection.SetInt32(&message, &field, -number);
    case FieldDescriptor::CPPTYPE_INT64:
      return list ? reflection.AddInt64(&message, &field, INT64_MIN + number)
                  : reflection.SetInt64(&message, &field, INT64_MIN + number);
    case FieldDescriptor::CPPTYPE_UINT64:
      return list ? reflection.AddUInt64(&message, &field, UINT64_MAX)
                  : reflection.SetUInt64(&message, &field, UINT64_MAX);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return list ? reflection.AddDouble(&message, &field, 0.1 * number)
                  : reflection.SetDouble(&message, &field, 0.1 * number);
    case FieldDescriptor::CPPTYPE_STRING:
      return list ? reflection.AddString(&message, &field, text)
                  : reflection.SetString(&message, &field, text);
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto& type = *field.enum_type();
      const auto* value = type.value(1 + variant % (type.value_count() - 1));
      return list ? reflection.AddEnum(&message, &field, value)
                  : reflection.SetEnum(&message, &field, value);
    }
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return FillMessage(list ? *reflection.AddMessage(&message, &field)
                              : *reflection.MutableMessage(&message, &field),
                         variant, depth + 1);
    default:
      FAIL() << "a kind of field that the job file cannot have: " << field.full_name();
  }
}

void FillMessage(Message& message, int variant, int depth) {
  if (auto* duration = dynamic_cast<google::protobuf::Duration*>(&message)) {
    duration->set_seconds(3 + variant);
    duration->set_nanos(1);
    return;
  }
  if (auto* method = dynamic_cast<v1::MethodSpec*>(&message)) {
    (*method->mutable_parameters())["yes: \n"].set_bool_value(true);
    (*method->mutable_parameters())["whole"].set_int_value(INT64_MIN);
    (*method->mutable_parameters())["real"].set_double_value(1e20);
    (*method->mutable_parameters())["text"].set_string_value("1");
    method->set_name("x");
    return;
  }
  // Layers hold layers.
  constexpr int kMaxDepth = 8;
  const auto& type = *message.GetDescriptor();
  for (int i = 0; i < type.field_count(); ++i) {
    const FieldDescriptor& field = *type.field(i);
    const auto* oneof = field.real_containing_oneof();
    if (oneof != nullptr && oneof->field(variant % oneof->field_count()) != &field) continue;
    if (depth > kMaxDepth && field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) continue;
    for (int item = 0; item < (field.is_repeated() ? 2 : 1); ++item) {
      FillField(message, field, variant + item, depth);
    }
  }
}

// Whatever fields a job may have some day: with all of them set, one of each choice after the
// other.
TEST(JobTextTest, EveryFieldIsWrittenAndReadAgain) {
  constexpr int kVariants = 60;
  for (int variant = 0; variant < kVariants; ++variant) {
    v1::JobSpec spec;
    FillMessage(spec, variant, 0);
    for (const std::string& text : Written(spec)) {
      std::vector<config::Violation> violations;
      const config::JobFile again = config::ParseJobFile(text, violations);
      ASSERT_TRUE(violations.empty()) << violations[0].field << violations[0].description << text;
      ASSERT_TRUE(MessageDifferencer::Equals(again.spec, spec)) << variant << text;
    }
  }
}

TEST(JobTextTest, WordsAreReadInCapitalsAsTheyAreWritten) {
  for (const char* word : {"sgd", "SGD", "Sgd"}) {
    const auto spec = ReadJob(kJob, "job.yaml", {std::string("training.optimizer.kind=") + word});
    ASSERT_TRUE(spec.ok()) << word << spec.status();
    EXPECT_EQ(spec->training().optimizer().kind(), v1::Optimizer::KIND_SGD);
  }
}

TEST(JobTextTest, WrittenJobIsPlain) {
  const auto spec = ReadJob(kEverything, "job.yaml", {});
  ASSERT_TRUE(spec.ok());
  EXPECT_THAT(ToYaml(JsonOf(*spec, Unset::kLeftOut)),
              AllOf(HasSubstr("    kind: \"DIRICHLET\"\n"), HasSubstr("    real: 1.0\n"),
                    HasSubstr("  round_deadline: \"5400.5s\"\n"), HasSubstr("      - 3\n")));
}

}  // namespace
}  // namespace espalier::client
