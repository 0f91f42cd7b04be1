// A job from its acceptance to its end, with workers that do what they should.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::ElementsAre;
using testing::SizeIs;

std::vector<v1::JobEvent::KindCase> Kinds(const std::vector<v1::JobEvent>& events) {
  std::vector<v1::JobEvent::KindCase> kinds;
  for (const v1::JobEvent& event : events) kinds.push_back(event.kind_case());
  return kinds;
}

std::string HashWith(const v1::JobSpec& spec, int workers, const Simulation::Order& order = {}) {
  Simulation sim;
  sim.AddWorkers(workers);
  const std::string job = sim.Start(spec);
  sim.Run(job, order);
  EXPECT_EQ(sim.State(job), v1::Job::STATE_SUCCEEDED);
  return sim.Job(job).model_hash();
}

TEST(JobSimTest, FourShardsOnTwoWorkersRunToTheEnd) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  sim.Run(name);
  const v1::Job job = sim.Job(name);
  EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(job.round(), 3);
  ASSERT_THAT(job.history(), SizeIs(3));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(job.history(i).round(), i + 1);
    EXPECT_EQ(job.history(i).participants(), 4);
    EXPECT_EQ(job.history(i).examples(), 10 + 20 + 30 + 40);
    EXPECT_TRUE(job.history(i).has_test_accuracy());
    EXPECT_GT(job.history(i).bytes_sent(), 0);
    EXPECT_GT(job.history(i).bytes_received(), 0);
  }
  EXPECT_EQ(job.conditions_size(), 0);
}

TEST(JobSimTest, EventsComeInOrderAndCanBeReadFromAnySequence) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  sim.Run(name);
  using K = v1::JobEvent;
  const std::vector<v1::JobEvent> events = sim.Events(name);
  EXPECT_THAT(Kinds(events),
              ElementsAre(K::kStateChanged, K::kStateChanged, K::kRoundStarted, K::kRoundCommitted,
                          K::kRoundStarted, K::kRoundCommitted, K::kRoundStarted,
                          K::kCheckpointWritten, K::kRoundCommitted, K::kStateChanged));
  const auto log = sim.jobs.Events(name).value();
  EXPECT_TRUE(log->closed());
  EXPECT_EQ(log->last_sequence(), static_cast<int64_t>(events.size()));
  for (size_t after = 0; after < events.size(); ++after) {
    EXPECT_EQ(log->After(static_cast<int64_t>(after))->sequence(), static_cast<int64_t>(after) + 1);
  }
  EXPECT_FALSE(log->After(log->last_sequence()).has_value());
}

TEST(JobSimTest, CheckpointHoldsTheModelOfTheLastRound) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  sim.Run(name);
  const v1::Job job = sim.Job(name);
  const auto loaded = sim.checkpoints().Load(job.latest_checkpoint());
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(loaded->metadata.round, 3);
  EXPECT_EQ(loaded->state.topology->total_stored(), job.stored_parameters());
}

TEST(JobSimTest, CheckpointsAreKeptAsThePolicySays) {
  Simulation sim;
  sim.AddWorkers(1);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_rounds(6);
  spec.mutable_checkpoint()->set_every_rounds(1);
  spec.mutable_checkpoint()->set_keep(2);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  EXPECT_THAT(sim.Events(name, v1::JobEvent::kCheckpointWritten), SizeIs(6));
  // The best one is the first of equals, and stays beside the newest two.
  EXPECT_THAT(sim.checkpoints().List(name.substr(5)), SizeIs(3));
}

TEST(JobSimTest, ModelIsTheSameForAnyNumberOfWorkersAndOrderOfArrival) {
  const std::string expected = HashWith(SmallSpec(), 1);
  EXPECT_EQ(HashWith(SmallSpec(), 2), expected);
  EXPECT_EQ(HashWith(SmallSpec(), 5), expected);
  EXPECT_EQ(HashWith(SmallSpec(), 4, [](const auto& busy) { return busy.size() - 1; }), expected);
  EXPECT_EQ(HashWith(SmallSpec(), 4, [](const auto& busy) { return busy.size() / 2; }), expected);
}

TEST(JobSimTest, AnotherSeedGivesAnotherModel) {
  v1::JobSpec other = SmallSpec();
  other.set_seed(8);
  EXPECT_NE(HashWith(other, 2), HashWith(SmallSpec(), 2));
}

TEST(JobSimTest, LargeModelGoesThroughThePoolWithTheSameResult) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(LargeSpec());
  ASSERT_THAT(sim.busy(), SizeIs(4));
  ASSERT_GT(sim.Job(name).stored_parameters(), 65'536);
  // All arrive before the first is merged.
  std::vector<std::shared_ptr<Answer>> answers;
  for (FakeWorker* worker : sim.busy()) answers.push_back(worker->Finish());
  for (const auto& answer : answers) EXPECT_FALSE(answer->answered);
  sim.Settle();
  for (const auto& answer : answers) {
    EXPECT_TRUE(answer->answered);
    EXPECT_TRUE(answer->status.ok()) << answer->status;
  }
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).model_hash(), HashWith(LargeSpec(), 1));
}

TEST(JobSimTest, LargeJobCancelledWhileItMergesEndsCleanly) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(LargeSpec());
  const auto first = sim.busy()[0]->Finish();
  const auto second = sim.busy()[0]->Finish();
  EXPECT_TRUE(sim.jobs.Cancel(name).ok());
  sim.Settle();
  EXPECT_TRUE(first->answered);
  EXPECT_TRUE(second->answered);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_CANCELLED);
  EXPECT_THAT(sim.busy(), SizeIs(0));
}

TEST(JobSimTest, FederatedEvaluationAsksEveryShard) {
  Simulation sim;
  sim.AddWorkers(2);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_evaluation()->set_federated(true);
  spec.mutable_federation()->set_cohort_size(2);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  const v1::Job job = sim.Job(name);
  ASSERT_THAT(job.history(), SizeIs(3));
  EXPECT_EQ(job.history(0).participants(), 2);
  EXPECT_TRUE(job.history(0).has_federated_test_accuracy());
  EXPECT_FALSE(job.history(0).has_test_accuracy());
}

std::vector<std::set<std::string>> Cohorts(uint64_t seed) {
  Simulation sim;
  sim.AddWorkers(1);
  v1::JobSpec spec = SmallSpec();
  spec.set_seed(seed);
  spec.mutable_data()->mutable_partition()->set_shards(10);
  spec.mutable_federation()->set_cohort_size(3);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  std::vector<std::set<std::string>> cohorts(3);
  for (const v1::Task& task : sim.worker("w0").received()) {
    if (task.has_train()) cohorts[task.round() - 1].insert(task.participant());
  }
  return cohorts;
}

TEST(JobSimTest, CohortIsDrawnAnewEachRoundAndFollowsFromTheSeed) {
  const auto cohorts = Cohorts(7);
  for (const auto& cohort : cohorts) EXPECT_THAT(cohort, SizeIs(3));
  EXPECT_TRUE(cohorts[0] != cohorts[1] || cohorts[1] != cohorts[2]);
  EXPECT_EQ(Cohorts(7), cohorts);
  EXPECT_NE(Cohorts(8), cohorts);
}

TEST(JobSimTest, EndedJobHoldsNoModelAnyMore) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(SmallSpec());
  const std::string topology = sim.worker("w0").task().model().topology().digest();
  EXPECT_NE(sim.blobs.Get(topology, name), nullptr);
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  EXPECT_EQ(sim.blobs.Get(topology, name), nullptr);
}

}  // namespace
}  // namespace espalier::test
