#include "client/cli/job_text.h"

#include <gmock/gmock.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "client/cli/app.h"
#include "client/cli/output.h"
#include "client/lib/client.h"
#include "common/base/status.h"

namespace espalier::cli {
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
  const auto violations = client::ViolationsOf(WithLines(error, kJob, "job.yaml", {}));
  ASSERT_EQ(violations.size(), 2u);
  EXPECT_EQ(violations[0].description, "line 5: unknown method");
  EXPECT_EQ(violations[1].description, "bad");
}

TEST(JobTextTest, OverriddenFieldsAreNotBlamedOnTheFile) {
  const auto spec = ReadJob(kJob, "job.yaml", {"federation.rounds=0"});
  const auto violations = client::ViolationsOf(spec.status());
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
  ASSERT_TRUE(spec.ok()) << ErrorText(spec.status(), Format::kTable, {});
  for (const std::string& text : {WriteJob(*spec), JsonToYaml(WriteJob(*spec))}) {
    const auto again = ReadJob(text, "again.yaml", {});
    ASSERT_TRUE(again.ok()) << ErrorText(again.status(), Format::kTable, {}) << text;
    EXPECT_TRUE(MessageDifferencer::Equals(*again, *spec)) << text;
  }
}

TEST(JobTextTest, WrittenJobHasWordsOfAJobFile) {
  const auto spec = ReadJob(kEverything, "job.yaml", {});
  ASSERT_TRUE(spec.ok());
  EXPECT_THAT(JsonToYaml(WriteJob(*spec)),
              AllOf(HasSubstr("    kind: \"dirichlet\"\n"), HasSubstr("    real: 1.0\n"),
                    HasSubstr("  round_deadline: \"1h30m0.5s\"\n"), HasSubstr("      - 3\n")));
}

}  // namespace
}  // namespace espalier::cli
