#include "client/cli/job_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/lib/client.h"
#include "common/base/status.h"

namespace espalier::cli {
namespace {

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

}  // namespace
}  // namespace espalier::cli
