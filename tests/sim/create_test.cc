// What Create() accepts and how it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

struct Result {
  absl::StatusOr<v1::Job> job;
  std::vector<config::Violation> violations;

  std::vector<std::string> fields() const {
    std::vector<std::string> names;
    for (const auto& violation : violations) names.push_back(violation.field);
    return names;
  }
};

v1::CreateJobRequest Request(const v1::JobSpec& spec) {
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  return request;
}

Result Create(Simulation& sim, const v1::CreateJobRequest& request) {
  Result result;
  result.job = sim.Create(request, result.violations);
  return result;
}

TEST(CreateSimTest, AllViolationsAreReportedAtOnce) {
  Simulation sim;
  sim.AddWorkers(1);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_rounds(0);
  spec.mutable_federation()->set_quorum(1.5);
  spec.mutable_model()->set_input_features(0);
  (*spec.mutable_method()->mutable_parameters())["zeta"].set_double_value(2);
  const Result result = Create(sim, Request(spec));
  EXPECT_EQ(base::ReasonOf(result.job.status()), "INVALID_JOB");
  for (const char* field : {"federation.rounds", "federation.quorum", "model.input_features",
                            "method.parameters.zeta"}) {
    EXPECT_THAT(result.fields(), Contains(field));
  }
  EXPECT_THAT(sim.List(), IsEmpty());
}

TEST(CreateSimTest, MissingMethodIsOneViolation) {
  Simulation sim;
  v1::JobSpec spec = SmallSpec();
  spec.mutable_method()->Clear();
  EXPECT_THAT(Create(sim, Request(spec)).fields(), SizeIs(1));
}

TEST(CreateSimTest, UnknownMethodNamesTheNearestOne) {
  Simulation sim;
  v1::JobSpec spec = SmallSpec();
  spec.mutable_method()->set_name("sett");
  const Result result = Create(sim, Request(spec));
  ASSERT_THAT(result.violations, SizeIs(1));
  EXPECT_EQ(result.violations[0].field, "method.name");
  EXPECT_THAT(result.violations[0].description, HasSubstr("did you mean"));
  EXPECT_THAT(result.violations[0].description, HasSubstr("rigl"));
}

TEST(CreateSimTest, DataSetThatNobodyOffersListsTheOfferedOnes) {
  Simulation sim;
  sim.Add("w0", {"toy", "digits"});
  v1::JobSpec spec = SmallSpec();
  spec.mutable_data()->set_dataset("clouds");
  const Result result = Create(sim, Request(spec));
  ASSERT_THAT(result.violations, SizeIs(1));
  EXPECT_EQ(result.violations[0].field, "data.dataset");
  EXPECT_THAT(result.violations[0].description, HasSubstr("digits, toy"));
}

TEST(CreateSimTest, FeaturesAndClassesMustFitTheDataSet) {
  Simulation sim;
  FakeWorker& worker = sim.Add("w0");
  worker.Vanish();
  worker.dataset(0).set_features(784);
  worker.dataset(0).set_classes(10);
  ASSERT_TRUE(worker.Connect().ok());
  const Result result = Create(sim, Request(SmallSpec()));
  EXPECT_THAT(result.fields(), Contains("model.input_features"));
  EXPECT_THAT(result.fields(), Contains("model.layers[1].linear.units"));
}

TEST(CreateSimTest, DataSetOfALostWorkerDoesNotCount) {
  Simulation sim;
  FakeWorker& lost = sim.Add("w0");
  lost.Vanish();
  lost.dataset(0).set_features(784);
  ASSERT_TRUE(lost.Connect().ok());
  lost.Vanish();
  FakeWorker& present = sim.Add("w1");
  present.Vanish();
  present.dataset(0).set_features(8);
  present.dataset(0).set_classes(3);
  ASSERT_TRUE(present.Connect().ok());
  EXPECT_TRUE(Create(sim, Request(SmallSpec())).job.ok());
}

// A worker that declares budgets; `train_examples` are those of the data set "toy".
void AddWithBudgets(Simulation& sim, const std::string& id, int64_t memory_bytes, double flops,
                    int64_t train_examples = 160) {
  FakeWorker& worker = sim.Add(id);
  worker.Vanish();
  worker.dataset(0).set_train_examples(train_examples);
  worker.SetBudgets(memory_bytes, flops);
  ASSERT_TRUE(worker.Connect().ok());
}

TEST(CreateSimTest, PlanBeyondMemoryBudgetsSaysByHowMuchAndForWhom) {
  Simulation sim;
  AddWithBudgets(sim, "small", 1000000, 0);
  const Result result = Create(sim, Request(SmallSpec()));
  ASSERT_THAT(result.violations, SizeIs(1));
  EXPECT_THAT(result.violations[0].description, HasSubstr("on workers/small it needs "));
  EXPECT_THAT(result.violations[0].description, HasSubstr("more than its 1.0 MB"));
  EXPECT_THAT(sim.List(), IsEmpty());
}

TEST(CreateSimTest, PlanBeyondComputeBudgetsIsRefused) {
  Simulation sim;
  AddWithBudgets(sim, "slow", 0, 10);
  const Result result = Create(sim, Request(SmallSpec()));
  ASSERT_THAT(result.violations, SizeIs(1));
  EXPECT_THAT(result.violations[0].description, HasSubstr("FLOPs a task"));
}

TEST(CreateSimTest, ComputeOfADividedDataSetIsThatOfOneShare) {
  v1::JobSpec spec = SmallSpec();  // 4 shards
  const auto refused = [&spec](int64_t train_examples) {
    Simulation sim;
    AddWithBudgets(sim, "w0", 0, 1e6, train_examples);
    return !Create(sim, Request(spec)).violations.empty();
  };
  int64_t fits = 4;
  while (!refused(2 * fits)) fits *= 2;
  spec.mutable_data()->mutable_partition()->set_shards(8);
  EXPECT_FALSE(refused(2 * fits));
}

TEST(CreateSimTest, WorkersWithinTheirBudgetsDoTheWorkOfTheOthers) {
  Simulation sim;
  AddWithBudgets(sim, "small", 1000000, 0);
  AddWithBudgets(sim, "large", 1 << 30, 0);
  const std::string job = sim.Start(SmallSpec());
  sim.Run(job);
  EXPECT_EQ(sim.State(job), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(sim.worker("small").received(), IsEmpty());
}

TEST(CreateSimTest, RepeatedRequestReturnsTheFirstJob) {
  Simulation sim;
  v1::CreateJobRequest request = Request(SmallSpec());
  request.set_request_id("once");
  const Result first = Create(sim, request);
  const Result second = Create(sim, request);
  ASSERT_TRUE(first.job.ok());
  ASSERT_TRUE(second.job.ok());
  EXPECT_EQ(first.job->name(), second.job->name());
  EXPECT_THAT(sim.List(), SizeIs(1));
}

TEST(CreateSimTest, RequestIdsOfOneUserSayNothingToAnother) {
  Simulation sim;
  v1::CreateJobRequest request = Request(SmallSpec());
  request.set_request_id("once");
  std::vector<config::Violation> violations;
  const auto of_ada = sim.Create(request, violations, "ada");
  const auto of_bob = sim.Create(request, violations, "bob");
  const auto again = sim.Create(request, violations, "ada");
  ASSERT_TRUE(of_ada.ok() && of_bob.ok() && again.ok());
  EXPECT_NE(of_ada->name(), of_bob->name());
  EXPECT_EQ(of_ada->name(), again->name());
  EXPECT_EQ(of_bob->owner(), "bob");
  EXPECT_EQ(*sim.jobs.OwnerOfJob(of_ada->name()), "ada");
  EXPECT_EQ(base::ReasonOf(sim.jobs.OwnerOfJob("jobs/absent").status()), "JOB_NOT_FOUND");
  EXPECT_THAT(*sim.jobs.Select({}, "bob"), SizeIs(1));
  EXPECT_THAT(*sim.jobs.Select({}), SizeIs(2));
}

TEST(CreateSimTest, TasksSayWhoSubmittedTheJobAndItsMethod) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(SmallSpec(), "ada");
  ASSERT_TRUE(sim.worker("w0").busy());
  EXPECT_EQ(sim.worker("w0").task().submitter(), "ada");
  EXPECT_EQ(sim.worker("w0").task().method(), "set");
}

TEST(CreateSimTest, ValidateOnlyCreatesNothing) {
  Simulation sim;
  v1::CreateJobRequest request = Request(SmallSpec());
  request.set_validate_only(true);
  const Result result = Create(sim, request);
  ASSERT_TRUE(result.job.ok());
  EXPECT_EQ(result.job->name(), "");
  EXPECT_EQ(result.job->spec().training().batch_size(), 32);
  EXPECT_THAT(sim.List(), IsEmpty());
}

TEST(CreateSimTest, IdInUseIsRefusedAlsoWhenOnlyValidating) {
  Simulation sim;
  v1::CreateJobRequest request = Request(SmallSpec());
  request.set_job_id("mine");
  ASSERT_TRUE(Create(sim, request).job.ok());
  EXPECT_EQ(base::ReasonOf(Create(sim, request).job.status()), "JOB_EXISTS");
  request.set_validate_only(true);
  EXPECT_EQ(Create(sim, request).job.status().code(), absl::StatusCode::kAlreadyExists);
  request.set_job_id("Not an id");
  EXPECT_EQ(base::ReasonOf(Create(sim, request).job.status()), "INVALID_JOB_ID");
}

TEST(CreateSimTest, UnknownJobNamesTheNearestOne) {
  Simulation sim;
  v1::CreateJobRequest request = Request(SmallSpec());
  request.set_job_id("digits-a");
  ASSERT_TRUE(Create(sim, request).job.ok());
  const auto job = sim.Found("jobs/digits-b");
  EXPECT_EQ(job.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(base::MessageOf(job.status()), HasSubstr("jobs/digits-a"));
}

}  // namespace
}  // namespace espalier::test
