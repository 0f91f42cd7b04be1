// Jobs beside each other within the coordinator's memory budget.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// Room for one LargeSpec(), not for two.
constexpr uint64_t kOneLargeJob = uint64_t{73} << 20;

TEST(AdmissionSimTest, JobThatCanNeverFitIsRefusedWithTheSum) {
  Simulation sim(kOneLargeJob);
  sim.AddWorkers(1);
  v1::CreateJobRequest request;
  *request.mutable_spec() = LargeSpec();
  request.mutable_spec()->mutable_model()->mutable_layers(0)->mutable_linear()->set_units(1000);
  std::vector<config::Violation> violations;
  const auto job = sim.Create(request, violations);
  EXPECT_EQ(base::ReasonOf(job.status()), "INVALID_JOB");
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].field, "model");
  EXPECT_THAT(violations[0].description, HasSubstr("of the coordinator's memory ("));
  EXPECT_THAT(violations[0].description, HasSubstr("method.parameters.density"));
  EXPECT_THAT(sim.List(), IsEmpty());
  request.set_validate_only(true);
  violations.clear();
  EXPECT_EQ(base::ReasonOf(sim.Create(request, violations).status()), "INVALID_JOB");
}

TEST(AdmissionSimTest, JobWaitsForTheMemoryOfTheOneBeforeIt) {
  Simulation sim(kOneLargeJob);
  sim.AddWorkers(1);
  const std::string first = sim.Start(LargeSpec());
  const std::string second = sim.Start(LargeSpec());
  const std::string third = sim.Start(LargeSpec());
  sim.Tick();
  EXPECT_EQ(sim.State(first), v1::Job::STATE_RUNNING);
  for (const std::string& job : {second, third}) {
    EXPECT_EQ(sim.State(job), v1::Job::STATE_PENDING);
    ASSERT_EQ(sim.Job(job).conditions_size(), 1);
    EXPECT_EQ(sim.Job(job).conditions(0).type(), "WAITING_MEMORY");
  }
  EXPECT_THAT(sim.Job(second).conditions(0).message(), HasSubstr("running jobs take"));
  sim.Run(first);
  sim.Tick();
  EXPECT_EQ(sim.State(second), v1::Job::STATE_RUNNING);
  EXPECT_THAT(sim.Job(second).conditions(), IsEmpty());
  EXPECT_EQ(sim.State(third), v1::Job::STATE_PENDING);
  ASSERT_TRUE(sim.jobs.Cancel(second).ok());
  sim.Settle();
  sim.Tick();
  EXPECT_EQ(sim.State(third), v1::Job::STATE_RUNNING);
  sim.Run(third);
  EXPECT_EQ(sim.State(third), v1::Job::STATE_SUCCEEDED);
}

TEST(AdmissionSimTest, SmallJobsRunBesideALargeOne) {
  Simulation sim(kOneLargeJob);
  sim.AddWorkers(2);
  const std::string large = sim.Start(LargeSpec());
  const std::string small = sim.Start(SmallSpec());
  sim.Tick();
  EXPECT_EQ(sim.State(large), v1::Job::STATE_RUNNING);
  EXPECT_EQ(sim.State(small), v1::Job::STATE_RUNNING);
}

TEST(AdmissionSimTest, JobWithoutWorkersKeepsNobodyWaiting) {
  Simulation sim(kOneLargeJob);
  v1::JobSpec elsewhere = LargeSpec();
  elsewhere.mutable_data()->set_dataset("clouds");
  const std::string waiting = sim.Start(elsewhere);  // nobody can tell yet that nobody offers it
  sim.AddWorkers(1);
  const std::string job = sim.Start(LargeSpec());
  sim.Tick();
  EXPECT_EQ(sim.Job(waiting).conditions(0).type(), "WAITING_WORKERS");
  EXPECT_EQ(sim.State(job), v1::Job::STATE_RUNNING);
}

}  // namespace
}  // namespace espalier::test
