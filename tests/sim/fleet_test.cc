// Several jobs and the fleet they share.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::IsEmpty;
using testing::Pair;
using testing::SizeIs;
using testing::UnorderedElementsAre;

std::map<std::string, int> TasksByJob(Simulation& sim) {
  std::map<std::string, int> tasks;
  for (const FakeWorker* worker : sim.busy()) ++tasks[worker->task().job()];
  return tasks;
}

TEST(FleetSimTest, TwoJobsShareTheWorkersFairly) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string first = sim.Start(SmallSpec());
  EXPECT_THAT(TasksByJob(sim), UnorderedElementsAre(Pair(first, 4)));
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_rounds(30);
  const std::string second = sim.Start(spec);
  const std::string third = sim.Start(spec);
  size_t turn = 0;
  sim.Run(first, [&turn](const auto& busy) { return ++turn % busy.size(); });
  EXPECT_EQ(sim.State(first), v1::Job::STATE_SUCCEEDED);
  // Whoever gets free goes to the job with less in work; neither waits for the other's end.
  std::map<std::string, int> done;
  for (size_t i = 0; i < 40; ++i) {
    const auto busy = sim.busy();
    ASSERT_FALSE(busy.empty());
    FakeWorker& worker = *busy[i % busy.size()];
    ++done[worker.task().job()];
    worker.Finish();
    sim.Settle();
  }
  EXPECT_GE(done[second], 15);
  EXPECT_GE(done[third], 15);
  sim.Run(second);
  sim.Run(third);
  EXPECT_EQ(sim.State(second), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.State(third), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(second).model_hash(), sim.Job(third).model_hash());
}

// A worker keeps the data of its last participant, and the model it has just evaluated.
TEST(FleetSimTest, ParticipantsStayWithTheirWorkers) {
  Simulation sim;
  sim.AddWorkers(4);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_rounds(5);
  const std::string name = sim.Start(spec);
  sim.Run(name, [](const auto& busy) { return busy.size() - 1; });
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  for (const FakeWorker* worker : sim.workers()) {
    std::map<std::string, int> trained;
    for (const v1::Task& task : worker->received()) {
      if (task.has_train()) ++trained[task.participant()];
    }
    EXPECT_THAT(trained, UnorderedElementsAre(Pair(testing::_, 5)));
  }
}

TEST(FleetSimTest, JobStaysWithTheWorkersThatHaveItsModel) {
  Simulation sim;
  sim.AddWorkers(4);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_data()->mutable_partition()->set_shards(2);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(sim.worker("w0").received(), testing::Not(IsEmpty()));
  EXPECT_THAT(sim.worker("w1").received(), testing::Not(IsEmpty()));
  EXPECT_THAT(sim.worker("w2").received(), IsEmpty());
  EXPECT_THAT(sim.worker("w3").received(), IsEmpty());
}

// Each of these tasks would once have been looked at anew for every other one.
TEST(FleetSimTest, WideJobBesideAnIdleWorkerThatCannotDoItHoldsNobodyUp) {
  Simulation sim;
  sim.Add("elsewhere", {"clouds"});
  sim.Add("busy");
  v1::JobSpec wide = SmallSpec();
  wide.mutable_data()->mutable_partition()->set_shards(100'000);
  wide.mutable_federation()->set_rounds(1);
  const std::string name = sim.Start(wide);
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(sim.worker("busy").busy());
    ASSERT_TRUE(sim.worker("busy").Finish()->status.ok());
    EXPECT_FALSE(sim.worker("elsewhere").busy());
  }
  sim.Pass(absl::Seconds(30));
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  EXPECT_EQ(sim.State(name), v1::Job::STATE_CANCELLED);
}

TEST(FleetSimTest, WhatAWorkerSaysOfItselfHasLimits) {
  Simulation sim;
  FakeWorker& worker = sim.Add("w0");
  const auto refused = [&](const std::function<void(v1::DatasetInfo&)>& lie) {
    worker.Vanish();
    const v1::DatasetInfo honest = worker.dataset(0);
    lie(worker.dataset(0));
    const absl::Status status = worker.Connect();
    worker.dataset(0) = honest;
    EXPECT_TRUE(worker.Connect().ok());
    EXPECT_EQ(base::ReasonOf(status), "INVALID_REGISTRATION") << status;
    EXPECT_LT(status.message().size(), 1000U);
  };
  refused([](v1::DatasetInfo& info) { info.set_name(std::string(1'000'000, 'x')); });
  refused([](v1::DatasetInfo& info) { info.set_format(std::string(65, 'x')); });
  refused([](v1::DatasetInfo& info) { info.set_features(-1); });
  refused([](v1::DatasetInfo& info) { info.set_train_examples(int64_t{1} << 62); });
}

TEST(FleetSimTest, WordsOfAFailureAreCutAndItsReasonIsOneWord) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  sim.worker("w0").Fail("forged\nline\x1b[2J", std::string(4'000'000, 'x'));
  const auto events = sim.Events(name, v1::JobEvent::kTaskReassigned);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].task_reassigned().reason(), "WORKER_FAILED");
  EXPECT_LT(events[0].task_reassigned().message().size(), 5000U);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST(FleetSimTest, OddDescriptionOfADataSetDoesNotBlockOthers) {
  Simulation sim;
  for (const char* id : {"a", "b", "c"}) {
    FakeWorker& worker = sim.Add(id);
    worker.Vanish();
    worker.dataset(0).set_features(id == std::string("a") ? 63 : 8);
    worker.dataset(0).set_classes(3);
    ASSERT_TRUE(worker.Connect().ok());
  }
  const std::string name = sim.Start(SmallSpec());
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(sim.worker("a").received(), IsEmpty());
}

TEST(FleetSimTest, WorkersThatAreGoneAreForgottenBeyondTheNewest) {
  Simulation sim;
  for (int i = 0; i < sim.limits.max_gone_workers + 50; ++i) {
    sim.Add("w" + std::to_string(i)).Vanish();
    sim.clock.Advance(absl::Milliseconds(1));
  }
  sim.Add("last");
  EXPECT_THAT(sim.fleet.List(), SizeIs(sim.limits.max_gone_workers + 1));
  EXPECT_EQ(sim.fleet.Find("w0"), nullptr);
}

TEST(FleetSimTest, CancelledJobGivesItsWorkersToTheOther) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string cancelled = sim.Start(SmallSpec());
  const std::string other = sim.Start(SmallSpec());
  const v1::Task task = sim.worker("w0").task();
  ASSERT_EQ(task.job(), cancelled);
  const Update late = sim.worker("w0").Compute();
  ASSERT_TRUE(sim.jobs.Cancel(cancelled).ok());
  EXPECT_EQ(sim.State(cancelled), v1::Job::STATE_CANCELLED);
  ASSERT_THAT(sim.worker("w0").cancelled(), SizeIs(1));
  EXPECT_EQ(sim.worker("w0").cancelled()[0].task_id(), task.task_id());
  EXPECT_EQ(sim.worker("w0").cancelled()[0].reason(), "JOB_CANCELLED");
  EXPECT_THAT(TasksByJob(sim), UnorderedElementsAre(Pair(other, 2)));
  EXPECT_EQ(sim.worker("w0").Send(late)->status.code(), absl::StatusCode::kAborted);
  sim.Run(other);
  EXPECT_EQ(sim.State(other), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(base::ReasonOf(sim.jobs.Cancel(cancelled).status()), "JOB_ENDED");
  EXPECT_EQ(base::ReasonOf(sim.jobs.Cancel(other).status()), "JOB_ENDED");
}

TEST(FleetSimTest, CancelledPendingJobNeverStarts) {
  Simulation sim;
  const std::string name = sim.Start(SmallSpec());
  EXPECT_EQ(sim.State(name), v1::Job::STATE_PENDING);
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  sim.AddWorkers(1);
  sim.Tick();
  EXPECT_EQ(sim.State(name), v1::Job::STATE_CANCELLED);
  EXPECT_THAT(sim.busy(), IsEmpty());
}

TEST(FleetSimTest, JobCancelledWhileItIsPreparedEnds) {
  Simulation sim;
  sim.AddWorkers(1);
  v1::CreateJobRequest request;
  *request.mutable_spec() = SmallSpec();
  std::vector<config::Violation> violations;
  const auto job = sim.Create(request, violations);
  ASSERT_TRUE(job.ok());
  EXPECT_EQ(job->state(), v1::Job::STATE_RUNNING);
  ASSERT_TRUE(sim.jobs.Cancel(job->name()).ok());
  sim.Settle();
  EXPECT_EQ(sim.State(job->name()), v1::Job::STATE_CANCELLED);
  EXPECT_THAT(sim.busy(), IsEmpty());
}

TEST(FleetSimTest, LeavingWorkerFinishesItsTaskAndGetsNoOther) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  FakeWorker& draining = sim.worker("w0");
  draining.Leave();
  EXPECT_TRUE(draining.Finish()->status.ok());
  EXPECT_FALSE(draining.busy());
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(draining.received(), SizeIs(1));
  draining.Vanish();
  EXPECT_THAT(sim.Events(name, v1::JobEvent::kTaskReassigned), IsEmpty());
}

TEST(FleetSimTest, WorkerThatEndsWithItsTaskLeavesItToOthersAtOnce) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(SmallSpec());
  // Often: it is no sign against a task that somebody ends a worker on purpose.
  for (int i = 0; i < 10; ++i) {
    sim.Settle();
    ASSERT_TRUE(sim.worker("w0").busy());
    sim.worker("w0").Leave();
    sim.worker("w0").Vanish();
    EXPECT_EQ(sim.fleet.Find("w0")->state(), v1::Worker::STATE_LEFT);
    ASSERT_TRUE(sim.worker("w0").Connect().ok());
  }
  const auto reassigned = sim.Events(name, v1::JobEvent::kTaskReassigned);
  ASSERT_THAT(reassigned, SizeIs(10));
  EXPECT_EQ(reassigned[0].task_reassigned().reason(), "WORKER_LEFT");
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST(FleetSimTest, DrainedWorkerStaysAndTakesTasksAgainWhenItIsUndrained) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(SmallSpec());
  ASSERT_TRUE(sim.fleet.SetDraining("w0", true).ok());
  EXPECT_EQ(sim.fleet.Find("w0")->state(), v1::Worker::STATE_DRAINING);
  EXPECT_TRUE(sim.worker("w0").Finish()->status.ok());
  sim.Settle();
  sim.Pass(absl::Minutes(1));
  EXPECT_FALSE(sim.worker("w0").busy());
  EXPECT_EQ(sim.Job(name).conditions(0).type(), "WAITING_WORKERS");
  EXPECT_THAT(sim.Job(name).conditions(0).message(),
              testing::HasSubstr("0 workers are connected; 1 more take no tasks"));
  // What it was told last counts also when its connection breaks.
  sim.worker("w0").Vanish();
  EXPECT_EQ(sim.fleet.Find("w0")->state(), v1::Worker::STATE_LOST);
  ASSERT_TRUE(sim.worker("w0").Connect().ok());
  EXPECT_EQ(sim.fleet.Find("w0")->state(), v1::Worker::STATE_DRAINING);
  EXPECT_FALSE(sim.worker("w0").busy());
  const auto undrained = sim.fleet.SetDraining("w0", false);
  ASSERT_TRUE(undrained.ok());
  EXPECT_EQ(undrained->state(), v1::Worker::STATE_ACTIVE);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST(FleetSimTest, WhatCannotBeDrainedIsSaid) {
  Simulation sim;
  sim.AddWorkers(1);
  EXPECT_EQ(base::ReasonOf(sim.fleet.SetDraining("w1", true).status()), "WORKER_NOT_FOUND");
  sim.worker("w0").Leave();
  EXPECT_EQ(base::ReasonOf(sim.fleet.SetDraining("w0", false).status()), "WORKER_LEAVES");
  sim.worker("w0").Vanish();
  EXPECT_EQ(base::ReasonOf(sim.fleet.SetDraining("w0", true).status()), "WORKER_GONE");
}

TEST(FleetSimTest, WorkersThatLeftAreForgottenSoonerThanLostOnes) {
  Simulation sim;
  sim.AddWorkers(2);
  sim.worker("w0").Leave();
  sim.worker("w0").Vanish();
  sim.worker("w1").Vanish();
  sim.Pass(absl::Minutes(9));
  EXPECT_THAT(sim.fleet.List(), SizeIs(2));
  sim.Pass(absl::Minutes(2));
  ASSERT_THAT(sim.fleet.List(), SizeIs(1));
  EXPECT_EQ(sim.fleet.List()[0].name(), "workers/w1");
  sim.clock.Advance(absl::Hours(24));
  sim.Tick();
  EXPECT_THAT(sim.fleet.List(), IsEmpty());
}

TEST(FleetSimTest, WorkerWithoutTheDataSetGetsNoTask) {
  Simulation sim;
  sim.Add("other", {"clouds"});
  sim.Add("w0");
  const std::string name = sim.Start(SmallSpec());
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(sim.worker("other").received(), IsEmpty());
}

TEST(FleetSimTest, IdOfALivingWorkerIsTaken) {
  Simulation sim;
  sim.AddWorkers(1);
  FakeWorker twin("w0", {"toy"}, sim.fleet, sim.jobs, sim.blobs);
  EXPECT_EQ(base::ReasonOf(twin.Connect()), "WORKER_EXISTS");
  sim.worker("w0").Vanish();
  EXPECT_TRUE(twin.Connect().ok());
  twin.Vanish();
}

TEST(FleetSimTest, EpochsNeverRepeat) {
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(SmallSpec());
  sim.worker("w1").Vanish();
  ASSERT_TRUE(sim.worker("w1").Connect().ok());
  sim.Run(name);
  std::vector<uint64_t> epochs;
  for (const FakeWorker* worker : sim.workers()) {
    for (const v1::Task& task : worker->received()) epochs.push_back(task.epoch().counter());
  }
  std::sort(epochs.begin(), epochs.end());
  EXPECT_EQ(std::adjacent_find(epochs.begin(), epochs.end()), epochs.end());
}

}  // namespace
}  // namespace espalier::test
