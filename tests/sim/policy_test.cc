// Workers whose policies allow some jobs alone.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::SizeIs;

v1::WorkerPolicy Allow(const std::string& submitter, const std::string& method = "",
                       const std::string& dataset = "") {
  v1::WorkerPolicy policy;
  v1::WorkerPolicy::Rule& rule = *policy.add_allow();
  if (!submitter.empty()) rule.add_submitters(submitter);
  if (!method.empty()) rule.add_methods(method);
  if (!dataset.empty()) rule.add_datasets(dataset);
  return policy;
}

// The worker connects anew, with this policy.
void Declare(FakeWorker& worker, std::optional<v1::WorkerPolicy> policy) {
  if (worker.connected()) worker.Vanish();
  worker.SetPolicy(std::move(policy));
  ASSERT_TRUE(worker.Connect().ok());
}

FakeWorker& Add(Simulation& sim, const std::string& id, const v1::WorkerPolicy& policy) {
  FakeWorker& worker = sim.Add(id);
  Declare(worker, policy);
  return worker;
}

std::string Waiting(Simulation& sim, const std::string& name) {
  const v1::Job job = sim.Job(name);
  if (job.conditions_size() == 0) return "";
  return job.conditions(0).type() + ": " + job.conditions(0).message();
}

TEST(PolicySimTest, WorkersDoTheJobsThatTheyAllow) {
  struct Case {
    v1::WorkerPolicy policy;
    bool allows;
  };
  for (const Case& given :
       {Case{Allow("ada"), true}, Case{Allow("bob"), false}, Case{Allow("", "set"), true},
        Case{Allow("", "dense"), false}, Case{Allow("", "", "toy"), true},
        Case{Allow("ada", "set", "toy"), true}, Case{Allow("ada", "dense", "toy"), false},
        Case{v1::WorkerPolicy(), false}}) {
    Simulation sim;
    sim.Add("w0");
    FakeWorker& careful = Add(sim, "careful", given.policy);
    const std::string name = sim.Start(SmallSpec(), "ada");
    sim.Run(name);
    EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
    EXPECT_EQ(careful.received().empty(), !given.allows) << given.policy.ShortDebugString();
    EXPECT_EQ(sim.Job(name).left_out_workers_size(), given.allows ? 0 : 1);
  }
}

TEST(PolicySimTest, JobThatAllWorkersRefuseWaitsAndSaysWhoseItIs) {
  Simulation sim;
  for (const char* id : {"w0", "w1", "w2"}) Add(sim, id, Allow("ada"));
  const std::string name = sim.Start(SmallSpec(), "bob");
  sim.Tick();
  EXPECT_EQ(sim.State(name), v1::Job::STATE_PENDING);
  EXPECT_THAT(Waiting(sim, name),
              AllOf(HasSubstr("WAITING_WORKERS"),
                    HasSubstr("3 workers have data set 'toy' and do not allow jobs of 'bob'")));
  const v1::Job job = sim.Job(name);
  ASSERT_EQ(job.left_out_workers_size(), 3);
  EXPECT_EQ(job.left_out_workers(0).worker(), "workers/w0");
  EXPECT_EQ(job.left_out_workers(0).reason(), "its policy does not allow jobs of 'bob'");
  // What a data set is concerns those alone whose jobs are allowed.
  EXPECT_EQ(sim.worker("w0").asked(), 0);
  Declare(sim.worker("w1"), std::nullopt);
  sim.Tick();
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(sim.worker("w0").received(), IsEmpty());
}

TEST(PolicySimTest, OnlyWorkersThatAllowTheJobCountForMinWorkers) {
  Simulation sim;
  sim.Add("w0");
  FakeWorker& careful = Add(sim, "careful", Allow("ada"));
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_min_workers(2);
  const std::string name = sim.Start(spec, "bob");
  sim.Tick();
  EXPECT_EQ(sim.State(name), v1::Job::STATE_PENDING);
  EXPECT_THAT(Waiting(sim, name),
              HasSubstr("1 worker has data set 'toy' and does not allow jobs of 'bob'"));
  v1::WorkerPolicy both = Allow("ada");
  both.mutable_allow(0)->add_submitters("bob");
  Declare(careful, both);
  sim.Tick();
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
}

TEST(PolicySimTest, SizesThatOnlyRefusingWorkersCouldSayHaveToBeInTheJob) {
  Simulation sim;
  FakeWorker& worker = sim.Add("w0");
  worker.dataset(0).set_features(8);
  worker.dataset(0).set_classes(3);
  Declare(worker, Allow("ada"));
  v1::JobSpec spec = SmallSpec();
  spec.mutable_model()->clear_input_features();
  std::vector<config::Violation> violations;
  v1::CreateJobRequest request;
  *request.mutable_spec() = spec;
  EXPECT_EQ(base::ReasonOf(sim.Create(request, violations, "bob").status()), "INVALID_JOB");
  ASSERT_THAT(violations, Not(IsEmpty()));
  EXPECT_THAT(violations[0].description, HasSubstr("does not allow jobs of 'bob'"));
  EXPECT_TRUE(sim.Create(request, violations, "ada").ok());
}

TEST(PolicySimTest, PolicyThatChangesHoldsForTheTasksThatFollow) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec(), "ada");
  FakeWorker& changed = sim.worker("w1");
  ASSERT_TRUE(changed.busy());
  Declare(changed, Allow("bob"));
  sim.Settle();
  const size_t received = changed.received().size();
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(changed.received(), SizeIs(received));
}

TEST(PolicySimTest, StepWhoseWorkersRefuseNowWaitsAndItsDeadlineWithIt) {
  Simulation sim;
  FakeWorker& worker = sim.Add("w0");
  const std::string name = sim.Start(SmallSpec(), "ada");
  worker.Finish();
  Declare(worker, Allow("bob"));
  sim.Pass(absl::Hours(2));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  EXPECT_THAT(Waiting(sim, name),
              HasSubstr("1 worker has data set 'toy' and does not allow jobs of 'ada'"));
  Declare(worker, std::nullopt);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST(PolicySimTest, TaskThatAWorkerRefusesByItselfGoesToOthersAndCountsAgainstNobody) {
  Simulation sim;
  sim.AddWorkers(6);
  v1::JobSpec spec = SmallSpec();
  const std::string name = sim.Start(spec, "ada");
  sim.Run(name);  // all workers have completed tasks
  const std::string second = sim.Start(spec, "ada");
  sim.Settle();
  for (int i = 0; i < 5; ++i) {
    ASSERT_FALSE(sim.busy().empty());
    FakeWorker& worker = *sim.busy().front();
    worker.Fail("TASK_NOT_ALLOWED", "it does not allow jobs of 'ada'");
    sim.Settle();
    EXPECT_FALSE(worker.busy()) << "it is given no other task of the job";
  }
  sim.Run(second);
  EXPECT_EQ(sim.State(second), v1::Job::STATE_SUCCEEDED);
}

TEST(PolicySimTest, SitesThatRefuseTakeNoPartInAJobOnLocalData) {
  Simulation sim;
  sim.AddWorkers(2);
  FakeWorker& careful = Add(sim, "careful", Allow("ada"));
  v1::JobSpec spec = SmallSpec();
  spec.mutable_data()->mutable_partition()->clear_shards();
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  const std::string name = sim.Start(spec, "bob");
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(careful.received(), IsEmpty());
  EXPECT_EQ(careful.asked(), 0);
  const v1::Job job = sim.Job(name);
  for (const v1::RoundSummary& round : job.history()) EXPECT_EQ(round.participants(), 2);
}

TEST(PolicySimTest, WorkerThatComesLaterAndRefusesIsNotAsked) {
  Simulation sim;
  const std::string name = sim.Start(SmallSpec(), "ada");
  FakeWorker& refusing = sim.Add("refusing", {"other"});
  v1::DatasetInfo toy;
  toy.set_name("toy");
  refusing.SetDatasets({toy});
  Declare(refusing, Allow("", "dense"));
  sim.Add("w0");
  sim.Tick();
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(refusing.asked(), 0);
  EXPECT_THAT(refusing.received(), IsEmpty());
}

TEST(PolicySimTest, PoliciesHoldAgainAfterARestart) {
  Disk disk;
  std::string name;
  {
    Simulation sim(disk, 1);
    sim.Add("w0");
    name = sim.Start(SmallSpec(), "ada");
    sim.worker("w0").Finish();
    sim.Settle();
  }
  Simulation sim(disk, 2);
  FakeWorker& careful = Add(sim, "careful", Allow("bob"));
  sim.Tick();
  EXPECT_THAT(careful.received(), IsEmpty());
  EXPECT_EQ(careful.asked(), 0);
  Add(sim, "w0", Allow("ada"));
  sim.Tick();
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(careful.received(), IsEmpty());
}

TEST(PolicySimTest, PoliciesOfHostileWorkersHaveLimits) {
  Simulation sim;
  FakeWorker& worker = sim.Add("w0");
  const auto refused = [&](const v1::WorkerPolicy& policy) {
    worker.Vanish();
    worker.SetPolicy(policy);
    const absl::Status status = worker.Connect();
    worker.SetPolicy(std::nullopt);
    EXPECT_TRUE(worker.Connect().ok());
    EXPECT_EQ(base::ReasonOf(status), "INVALID_REGISTRATION") << status;
    EXPECT_LT(status.message().size(), 1000U);
  };
  v1::WorkerPolicy policy;
  for (int i = 0; i < 1000; ++i) policy.add_allow();
  refused(policy);
  refused(Allow(std::string(100'000, 'x')));
  refused(Allow("forged\nline"));
  refused(Allow("", "", "../up"));
  policy = Allow("ada");
  for (int i = 0; i < 10'000; ++i) policy.mutable_allow(0)->add_submitters("ada");
  refused(policy);
}

TEST(PolicySimTest, QuestionsGoToWorkersThatAllowTheJobThatTrainedTheModel) {
  Simulation sim;
  FakeWorker& worker = sim.Add("w0");
  v1::JobSpec spec = SmallSpec();
  spec.clear_model();
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(40);
  model.set_items(30);
  model.mutable_lightgcn()->set_dimensions(4);
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_USERS);
  spec.mutable_method()->set_name("static");
  spec.mutable_method()->clear_parameters();
  const std::string name = sim.Start(spec, "ada");
  sim.Run(name);
  v1::RecommendRequest request;
  request.set_checkpoint(sim.Job(name).latest_checkpoint());
  request.set_user("ann");
  absl::Status status;
  const auto ask = [&] {
    status = absl::UnknownError("no answer");
    sim.jobs.questions().Recommend(request, [&](const auto& answer) { status = answer.status(); });
    sim.Settle();
  };
  Declare(worker, Allow("bob"));
  ask();
  EXPECT_EQ(base::ReasonOf(status), "WAITING_WORKERS");
  EXPECT_THAT(base::MessageOf(status), HasSubstr("does not allow jobs of 'ada'"));
  Declare(worker, Allow("ada", "static", "toy"));
  ask();
  ASSERT_TRUE(worker.busy());
  EXPECT_EQ(worker.task().submitter(), "ada");
  EXPECT_EQ(worker.task().method(), "static");
  worker.Finish();
  sim.Settle();
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace espalier::test
