// Deadlines, quorums and waiting for workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr absl::Duration kDeadline = absl::Seconds(60);

v1::JobSpec SpecWith(v1::Federation::QuorumPolicy policy, double quorum = 1) {
  v1::JobSpec spec = SmallSpec();
  v1::Federation& federation = *spec.mutable_federation();
  federation.mutable_round_deadline()->set_seconds(absl::ToInt64Seconds(kDeadline));
  federation.set_on_quorum_loss(policy);
  federation.set_quorum(quorum);
  federation.set_max_extensions(2);
  return spec;
}

std::vector<std::string> Decisions(Simulation& sim, const std::string& name) {
  std::vector<std::string> decisions;
  for (const auto& event : sim.Events(name, v1::JobEvent::kQuorumMissed)) {
    decisions.push_back(event.quorum_missed().decision());
  }
  return decisions;
}

// Two of four shards arrive; the other two are with workers that go on for ever.
void FinishTwoOfFour(Simulation& sim) {
  ASSERT_THAT(sim.busy(), SizeIs(4));
  sim.worker("w0").Finish();
  sim.worker("w1").Finish();
  sim.Settle();
}

TEST(DeadlineSimTest, ExtendWaitsAsOftenAsAllowedAndThenFails) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(SpecWith(v1::Federation::QUORUM_POLICY_EXTEND));
  FinishTwoOfFour(sim);
  sim.Pass(kDeadline - absl::Seconds(1));
  EXPECT_THAT(Decisions(sim, name), IsEmpty());
  sim.Pass(absl::Seconds(1));
  EXPECT_THAT(Decisions(sim, name), ElementsAre("extend"));
  sim.Pass(kDeadline);
  EXPECT_THAT(Decisions(sim, name), ElementsAre("extend", "extend"));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  sim.Pass(kDeadline);
  EXPECT_THAT(Decisions(sim, name), ElementsAre("extend", "extend", "fail"));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_FAILED);
  EXPECT_EQ(sim.Job(name).failure_reason(), "QUORUM_LOST");
  EXPECT_THAT(sim.busy(), IsEmpty());
  const auto missed = sim.Events(name, v1::JobEvent::kQuorumMissed)[0].quorum_missed();
  EXPECT_EQ(missed.arrived(), 2);
  EXPECT_EQ(missed.needed(), 4);
}

TEST(DeadlineSimTest, ExtendedRoundCommitsWhenTheRestArrives) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(SpecWith(v1::Federation::QUORUM_POLICY_EXTEND));
  FinishTwoOfFour(sim);
  sim.Pass(kDeadline);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).history(0).participants(), 4);
}

TEST(DeadlineSimTest, ProceedCommitsWithWhatThereIs) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(SpecWith(v1::Federation::QUORUM_POLICY_PROCEED));
  FinishTwoOfFour(sim);
  const Update late = sim.worker("w2").Compute();
  sim.Pass(kDeadline);
  EXPECT_THAT(Decisions(sim, name), ElementsAre("proceed"));
  EXPECT_EQ(sim.worker("w2").Send(late)->status.code(), absl::StatusCode::kAborted);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).history(0).participants(), 2);
  EXPECT_EQ(sim.Job(name).history(1).participants(), 4);
}

TEST(DeadlineSimTest, ProceedWithoutAnyUpdateExtends) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(SpecWith(v1::Federation::QUORUM_POLICY_PROCEED));
  sim.Pass(kDeadline);
  EXPECT_THAT(Decisions(sim, name), ElementsAre("extend"));
}

TEST(DeadlineSimTest, ProceedDoesNotWaitForTheDeadlineWhenNothingMoreCanCome) {
  Simulation sim;
  sim.AddWorkers(4);
  v1::JobSpec spec = SpecWith(v1::Federation::QUORUM_POLICY_PROCEED);
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  spec.mutable_data()->mutable_partition()->clear_shards();
  const std::string name = sim.Start(spec);
  FinishTwoOfFour(sim);
  sim.worker("w2").Fail("DATA_MISSING", "expected train.csv, found nothing");
  sim.worker("w3").Fail("DATA_MISSING", "expected train.csv, found nothing");
  EXPECT_THAT(Decisions(sim, name), ElementsAre("proceed"));
  sim.Run(name);
  EXPECT_EQ(sim.Job(name).history(0).participants(), 2);
}

TEST(DeadlineSimTest, FailEndsTheJobAtTheDeadline) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(SpecWith(v1::Federation::QUORUM_POLICY_FAIL));
  FinishTwoOfFour(sim);
  sim.Pass(kDeadline);
  EXPECT_THAT(Decisions(sim, name), ElementsAre("fail"));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_FAILED);
  EXPECT_EQ(sim.Job(name).failure_reason(), "QUORUM_LOST");
}

TEST(DeadlineSimTest, QuorumAtTheDeadlineCommitsWithoutTheRest) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(SpecWith(v1::Federation::QUORUM_POLICY_FAIL, 0.5));
  FinishTwoOfFour(sim);
  EXPECT_EQ(sim.Job(name).round(), 0);  // the others may still come
  const std::string withdrawn = sim.worker("w2").task().task_id();
  sim.Pass(kDeadline);
  EXPECT_THAT(Decisions(sim, name), IsEmpty());
  ASSERT_THAT(sim.worker("w2").cancelled(), SizeIs(1));
  EXPECT_EQ(sim.worker("w2").cancelled()[0].task_id(), withdrawn);
  EXPECT_EQ(sim.worker("w2").cancelled()[0].reason(), "ROUND_CLOSED");
  sim.Run(name);
  EXPECT_EQ(sim.Job(name).history(0).participants(), 2);
}

TEST(DeadlineSimTest, ClosingSendsNoTaskThatItWithdrawsAtOnce) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SpecWith(v1::Federation::QUORUM_POLICY_FAIL));
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  EXPECT_THAT(sim.worker("w0").received(), SizeIs(1));
  EXPECT_THAT(sim.worker("w1").received(), SizeIs(1));
}

TEST(DeadlineSimTest, UpdateInTheMergeAtTheDeadlineCounts) {
  Simulation sim;
  sim.AddWorkers(4);
  v1::JobSpec spec = LargeSpec();
  *spec.mutable_federation() = SpecWith(v1::Federation::QUORUM_POLICY_FAIL, 0.5).federation();
  const std::string name = sim.Start(spec);
  sim.worker("w0").Finish();
  sim.worker("w1").Finish();
  sim.clock.Advance(kDeadline);
  for (FakeWorker* worker : sim.workers()) worker->Heartbeat();
  sim.jobs.Tick();  // before the pool ran
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  sim.Settle();
  sim.Tick();
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).history(0).participants(), 2);
}

TEST(DeadlineSimTest, UpdateRefusedInTheMergeAfterTheDeadlineDoesNotCount) {
  Simulation sim;
  sim.AddWorkers(4);
  v1::JobSpec spec = LargeSpec();
  *spec.mutable_federation() = SpecWith(v1::Federation::QUORUM_POLICY_FAIL, 0.5).federation();
  const std::string name = sim.Start(spec);
  sim.worker("w0").Finish();
  Update bad = sim.worker("w1").Compute();
  bad.header.set_examples(0);
  const auto answer = sim.worker("w1").Send(bad);
  sim.clock.Advance(kDeadline);
  for (FakeWorker* worker : sim.workers()) worker->Heartbeat();
  sim.jobs.Tick();
  sim.Settle();
  EXPECT_FALSE(answer->status.ok());
  sim.Tick();
  EXPECT_THAT(Decisions(sim, name), ElementsAre("fail"));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_FAILED);
}

TEST(DeadlineSimTest, JobIsPendingUntilEnoughWorkersOfferTheDataSet) {
  Simulation sim;
  sim.Add("other", {"clouds"});
  sim.Add("w0");
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_min_workers(2);
  const std::string name = sim.Start(spec);
  sim.Tick();
  EXPECT_EQ(sim.State(name), v1::Job::STATE_PENDING);
  ASSERT_EQ(sim.Job(name).conditions_size(), 1);
  EXPECT_EQ(sim.Job(name).conditions(0).type(), "WAITING_WORKERS");
  EXPECT_THAT(sim.Job(name).conditions(0).message(), HasSubstr("1 of 2 workers offer it"));
  sim.Add("w1");
  sim.Tick();
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  EXPECT_EQ(sim.Job(name).conditions_size(), 0);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST(DeadlineSimTest, DeadlineStandsStillWhileThereIsNoWorker) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(SpecWith(v1::Federation::QUORUM_POLICY_FAIL));
  sim.worker("w0").Finish();
  sim.Pass(kDeadline / 2);
  sim.worker("w0").Vanish();
  sim.Pass(kDeadline * 10);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  ASSERT_EQ(sim.Job(name).conditions_size(), 1);
  EXPECT_EQ(sim.Job(name).conditions(0).type(), "WAITING_WORKERS");
  ASSERT_TRUE(sim.worker("w0").Connect().ok());
  sim.Pass(kDeadline / 3);
  EXPECT_EQ(sim.Job(name).conditions_size(), 0);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(Decisions(sim, name), IsEmpty());
}

TEST(DeadlineSimTest, EchoNeedsNoDataSet) {
  Simulation sim;
  sim.Add("w0", {});
  v1::JobSpec spec = SmallSpec();
  spec.mutable_method()->set_name("echo");
  const std::string name = sim.Start(spec);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

}  // namespace
}  // namespace espalier::test
