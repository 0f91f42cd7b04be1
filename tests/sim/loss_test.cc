// Workers that vanish, fall silent or fail.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

std::string UndisturbedHash(const v1::JobSpec& spec) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  return sim.Job(name).model_hash();
}

using Poison = std::function<bool(const v1::Task&)>;

Poison ParticipantOfRoundOne(const std::string& participant) {
  return [participant](const v1::Task& task) {
    return task.round() == 1 && task.participant() == participant;
  };
}

// Workers finish what they are given, but vanish with what is poison to them and come back a second
// later, until the job ends or `time` has passed. Returns how often one vanished.
int RunWithPoison(Simulation& sim, const std::string& name, const Poison& poison,
                  absl::Duration time = absl::Minutes(10)) {
  int lost = 0;
  const absl::Duration until = sim.clock.Elapsed() + time;
  while (sim.State(name) == v1::Job::STATE_RUNNING && sim.clock.Elapsed() < until) {
    for (FakeWorker* worker : sim.busy()) {
      if (!worker->busy()) continue;
      if (poison(worker->task())) {
        worker->Vanish();
        ++lost;
      } else {
        worker->Finish();
      }
      sim.Settle();
    }
    sim.Tick();
    for (FakeWorker* worker : sim.workers()) {
      if (!worker->connected()) {
        EXPECT_TRUE(worker->Connect().ok());
      }
    }
  }
  return lost;
}

TEST(LossSimTest, ShardOfAVanishedWorkerIsRedoneByAnother) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  FakeWorker& lost = sim.worker("w0");
  const v1::Task task = lost.task();
  lost.Vanish();
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  const auto events = sim.Events(name, v1::JobEvent::kTaskReassigned);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].task_reassigned().participant(), task.participant());
  EXPECT_EQ(events[0].task_reassigned().worker(), "w0");
  EXPECT_EQ(events[0].task_reassigned().reason(), "WORKER_DISCONNECTED");
  EXPECT_EQ(sim.Job(name).model_hash(), UndisturbedHash(SmallSpec()));
}

TEST(LossSimTest, SilentWorkerIsLostAndItsLateUploadRefused) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  FakeWorker& silent = sim.worker("w0");
  const Update late = silent.Compute();
  sim.Pass(sim.limits.heartbeat_timeout, {"w0"});
  EXPECT_TRUE(silent.connected());
  sim.Pass(absl::Seconds(1), {"w0"});
  EXPECT_FALSE(silent.connected());
  EXPECT_EQ(silent.close_status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(base::ReasonOf(silent.close_status()), "HEARTBEAT_TIMEOUT");
  const auto answer = silent.Send(late);
  EXPECT_EQ(answer->status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(base::ReasonOf(answer->status), "LEASE_EXPIRED");
  sim.Run(name);
  EXPECT_EQ(sim.Job(name).model_hash(), UndisturbedHash(SmallSpec()));
}

TEST(LossSimTest, ReconnectedWorkersOldTaskStaysRefused) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(SmallSpec());
  FakeWorker& worker = sim.worker("w0");
  const Update stale = worker.Compute();
  worker.Vanish();
  ASSERT_TRUE(worker.Connect().ok());
  EXPECT_EQ(worker.Send(stale)->status.code(), absl::StatusCode::kAborted);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST(LossSimTest, TaskThatEndsProvenWorkersIsLeftOutOfTheQuorum) {
  Simulation sim;
  sim.AddWorkers(3);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_quorum(0.5);
  const std::string name = sim.Start(spec);
  const int lost = RunWithPoison(sim, name, ParticipantOfRoundOne("shard-1"));
  EXPECT_LE(lost, 6);
  const v1::Job job = sim.Job(name);
  ASSERT_EQ(job.state(), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(job.history(0).participants(), 3);
  EXPECT_EQ(job.history(1).participants(), 4);
}

TEST(LossSimTest, TaskThatEndsProvenWorkersFailsAJobThatNeedsAllAndIsNamed) {
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(SmallSpec());
  const int lost = RunWithPoison(sim, name, ParticipantOfRoundOne("shard-1"));
  EXPECT_LE(lost, 6);
  const v1::Job job = sim.Job(name);
  EXPECT_EQ(job.state(), v1::Job::STATE_FAILED);
  EXPECT_EQ(job.failure_reason(), "TASK_ENDS_WORKERS");
  EXPECT_THAT(job.failure_message(), HasSubstr("shard-1 (train, round 1"));
  EXPECT_THAT(sim.busy(), IsEmpty());
}

// A job all of whose tasks end their worker: never more than one worker at a time is given one
// after the first two waves, and other jobs go on.
TEST(LossSimTest, JobOfPoisonIsNotHandedThroughTheWholeFleet) {
  Simulation sim;
  sim.AddWorkers(8);
  v1::JobSpec spec = SmallSpec();
  const std::string poisonous = sim.Start(spec);
  int lost = 0;
  for (int second = 0; second < 60; ++second) {
    for (FakeWorker* worker : sim.busy()) {
      worker->Vanish();  // for good
      ++lost;
    }
    sim.Settle();
    sim.Tick();
  }
  EXPECT_EQ(sim.State(poisonous), v1::Job::STATE_RUNNING);
  EXPECT_THAT(sim.Job(poisonous).conditions(), SizeIs(1));
  EXPECT_LE(lost, 8);
  // Those that come back prove themselves at another job, and then the task is seen for what it is.
  for (FakeWorker* worker : sim.workers()) {
    if (!worker->connected()) {
      ASSERT_TRUE(worker->Connect().ok());
    }
  }
  const std::string harmless = sim.Start(SmallSpec());
  const auto is_poison = [&](const v1::Task& task) { return task.job() == poisonous; };
  RunWithPoison(sim, harmless, is_poison);
  EXPECT_EQ(sim.State(harmless), v1::Job::STATE_SUCCEEDED);
  RunWithPoison(sim, poisonous, is_poison, absl::Hours(2));
  EXPECT_EQ(sim.State(poisonous), v1::Job::STATE_FAILED);
  EXPECT_EQ(sim.Job(poisonous).failure_reason(), "TASK_ENDS_WORKERS");
}

// Workers that never completed anything prove nothing against a task, so it waits for better ones.
TEST(LossSimTest, JobThatIsHeldBackSaysWhichTaskSinceWhenAndWhenItIsTriedNext) {
  Simulation sim;
  sim.AddWorkers(4);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_data()->mutable_partition()->set_shards(1);
  const std::string name = sim.Start(spec);
  const Poison all = [](const v1::Task&) { return true; };
  RunWithPoison(sim, name, all, absl::Seconds(20));
  ASSERT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  ASSERT_THAT(sim.Job(name).conditions(), SizeIs(1));
  const v1::Condition first = sim.Job(name).conditions(0);
  EXPECT_EQ(first.type(), "TASKS_HELD_BACK");
  EXPECT_THAT(first.message(), HasSubstr("participant shard-0 (train, round 1, "));
  EXPECT_THAT(first.message(), HasSubstr("data set 'toy'"));
  EXPECT_THAT(first.message(), HasSubstr("of which 0 count against it"));
  EXPECT_THAT(first.message(), testing::ContainsRegex("the next try is in [0-9]+ s"));
  RunWithPoison(sim, name, all, absl::Minutes(20));
  ASSERT_THAT(sim.Job(name).conditions(), SizeIs(1));
  EXPECT_EQ(sim.Job(name).conditions(0).type(), "TASKS_HELD_BACK");
  EXPECT_EQ(sim.Job(name).conditions(0).since().seconds(), first.since().seconds());
  RunWithPoison(
      sim, name, [](const v1::Task&) { return false; }, absl::Hours(1));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST(LossSimTest, LossOfManyWorkersAtOnceCountsForNothing) {
  Simulation sim;
  sim.AddWorkers(4);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_max_retries(0);
  const std::string name = sim.Start(spec);
  for (int outage = 0; outage < 10; ++outage) {
    for (FakeWorker* worker : sim.workers()) worker->Vanish();
    sim.Pass(absl::Seconds(30));
    for (FakeWorker* worker : sim.workers()) ASSERT_TRUE(worker->Connect().ok());
    sim.Tick();
  }
  RunWithPoison(sim, name, [](const v1::Task&) { return false; });
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).model_hash(), UndisturbedHash(SmallSpec()));
}

TEST(LossSimTest, LongRoundSurvivesRestartsOfItsOnlyWorker) {
  for (const bool local : {false, true}) {
    Simulation sim;
    sim.AddWorkers(1);
    v1::JobSpec spec = SmallSpec();
    if (local) {
      spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
      spec.mutable_data()->mutable_partition()->clear_shards();
    }
    const std::string name = sim.Start(spec);
    int restarts = 0;
    RunWithPoison(sim, name, [&restarts](const v1::Task& task) {
      return task.round() == 2 && ++restarts <= 12;
    });
    EXPECT_GE(restarts, 12);
    EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED) << sim.Job(name).failure_message();
  }
}

TEST(LossSimTest, OneParticipantThatIsLostAgainAndAgainDoesNotHoldTheOthersUp) {
  Simulation sim;
  sim.AddWorkers(3);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_data()->mutable_partition()->set_shards(20);
  const std::string name = sim.Start(spec);
  RunWithPoison(sim, name, ParticipantOfRoundOne("shard-1"), absl::Seconds(15));
  int waiting = 0;
  for (const FakeWorker* worker : sim.workers()) {
    for (const v1::Task& task : worker->received()) waiting += task.participant() == "shard-19";
  }
  EXPECT_GE(waiting, 1);
}

TEST(LossSimTest, RetriedTaskDoesNotWaitForABetterWorkerThatHasLeft) {
  for (const bool drains : {false, true}) {
    Simulation sim;
    FakeWorker& proven = sim.Add("proven");
    const std::string first = sim.Start(SmallSpec());
    sim.Run(first);
    v1::JobSpec spec = SmallSpec();
    spec.mutable_data()->mutable_partition()->set_shards(1);
    sim.Start(spec);  // keeps the proven worker busy
    ASSERT_TRUE(proven.busy());
    FakeWorker& fresh = sim.Add("fresh");
    const std::string name = sim.Start(spec);
    ASSERT_TRUE(fresh.busy());
    ASSERT_EQ(fresh.task().job(), name);
    fresh.Vanish();
    ASSERT_TRUE(fresh.Connect().ok());
    sim.Pass(absl::Seconds(5));
    EXPECT_FALSE(fresh.busy());  // waits for the proven one
    if (drains) {
      proven.Leave();
    } else {
      proven.Vanish();
    }
    sim.Pass(absl::Seconds(5));
    EXPECT_TRUE(fresh.busy());
  }
}

// Strangers that fail whatever they are given.
TEST(LossSimTest, FreshWorkersThatReportFailuresDoNotEndAJob) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  for (FakeWorker* worker : sim.busy()) worker->Finish();
  sim.Settle();
  for (int i = 0; i < 6; ++i) sim.Add("stranger-" + std::to_string(i));
  for (int i = 0; i < 200 && sim.State(name) == v1::Job::STATE_RUNNING; ++i) {
    for (FakeWorker* worker : sim.busy()) {
      if (!worker->busy()) continue;
      if (worker->id().starts_with("stranger")) {
        worker->Fail("DATA_MISSING", "I say so");
      } else {
        worker->Finish();
      }
      sim.Settle();
    }
    sim.Tick();
  }
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED) << sim.Job(name).failure_message();
  EXPECT_EQ(sim.Job(name).model_hash(), UndisturbedHash(SmallSpec()));
}

TEST(LossSimTest, WorkerThatRanOutOfMemoryIsNotAskedAgain) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  FakeWorker& small = sim.worker("w0");
  small.Fail("OUT_OF_MEMORY", "expected 1 GB, found less");
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_THAT(small.received(), SizeIs(1));
}

TEST(LossSimTest, WorkersThatAreTooSmallDoNotCountAgainstTheJob) {
  Simulation sim;
  sim.AddWorkers(7);
  const std::string first = sim.Start(SmallSpec());
  sim.Run(first);  // all of them have completed a task
  v1::JobSpec spec = SmallSpec();
  spec.mutable_data()->mutable_partition()->set_shards(1);
  const std::string name = sim.Start(spec);
  for (int i = 0; i < 200 && sim.State(name) == v1::Job::STATE_RUNNING; ++i) {
    for (FakeWorker* worker : sim.busy()) {
      if (worker->id() == "w6") {
        worker->Finish();
      } else {
        worker->Fail("OUT_OF_MEMORY", "expected 1 GB, found less");
      }
      sim.Settle();
    }
    sim.Tick();
  }
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED) << sim.Job(name).failure_message();
}

TEST(LossSimTest, ReportedFailureIsRetriedOnOtherWorkersOnly) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  FakeWorker& failing = sim.worker("w0");
  const std::string participant = failing.task().participant();
  failing.Fail("DATA_MISSING", "expected train.csv, found nothing");
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  int given = 0;
  for (const v1::Task& task : failing.received()) {
    given += task.round() == 1 && task.participant() == participant ? 1 : 0;
  }
  EXPECT_EQ(given, 1);
  const auto events = sim.Events(name, v1::JobEvent::kTaskReassigned);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].task_reassigned().reason(), "DATA_MISSING");
}

TEST(LossSimTest, FailureOnAllWorkersFailsTheJobInTheWorkersWords) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  const std::string participant = sim.worker("w0").task().participant();
  for (int i = 0; i < 8 && sim.State(name) == v1::Job::STATE_RUNNING; ++i) {
    for (FakeWorker* worker : sim.busy()) {
      if (!worker->busy()) continue;
      if (worker->task().participant() == participant) {
        worker->Fail("DATA_MISSING", "expected train.csv, found nothing");
      } else {
        worker->Finish();
      }
    }
    sim.Settle();
  }
  const v1::Job job = sim.Job(name);
  EXPECT_EQ(job.state(), v1::Job::STATE_FAILED);
  EXPECT_EQ(job.failure_reason(), "DATA_MISSING");
  EXPECT_THAT(job.failure_message(), HasSubstr("expected train.csv, found nothing"));
  EXPECT_THAT(sim.busy(), IsEmpty());
}

TEST(LossSimTest, FailureReportsThatDoNotFitAreIgnored) {
  Simulation sim;
  sim.AddWorkers(2);
  v1::TaskFailed failure;
  sim.fleet.TaskFailed(sim.worker("w0").session(), failure);  // idle, and names no task
  const std::string name = sim.Start(SmallSpec());
  failure.set_task_id(sim.worker("w0").task().task_id());
  *failure.mutable_epoch() = sim.worker("w0").task().epoch();
  failure.mutable_epoch()->set_counter(failure.epoch().counter() + 1);
  sim.fleet.TaskFailed(sim.worker("w0").session(), failure);
  *failure.mutable_epoch() = sim.worker("w0").task().epoch();
  sim.fleet.TaskFailed(sim.worker("w1").session(), failure);
  sim.fleet.TaskFailed("guessed", failure);
  EXPECT_THAT(sim.Events(name, v1::JobEvent::kTaskReassigned), IsEmpty());
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

v1::JobSpec LocalSpec(v1::JobSpec spec = SmallSpec()) {
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
  spec.mutable_data()->mutable_partition()->set_shards(0);
  return spec;
}

TEST(LossSimTest, LocalDataMakesEveryWorkerAParticipant) {
  Simulation sim;
  sim.AddWorkers(3);
  sim.Add("other", {"clouds"});
  const std::string name = sim.Start(LocalSpec());
  ASSERT_THAT(sim.busy(), SizeIs(3));
  for (const FakeWorker* worker : sim.busy()) EXPECT_EQ(worker->task().participant(), worker->id());
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).history(0).participants(), 3);
  EXPECT_THAT(sim.worker("other").received(), IsEmpty());
}

TEST(LossSimTest, LocalWorkerThatFailsIsLeftOutWhenTheQuorumAllows) {
  Simulation sim;
  sim.AddWorkers(3);
  v1::JobSpec spec = LocalSpec();
  spec.mutable_federation()->set_quorum(0.6);
  const std::string name = sim.Start(spec);
  sim.worker("w1").Fail("OUT_OF_MEMORY", "too small");
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).history(0).participants(), 2);
  EXPECT_EQ(sim.Job(name).history(1).participants(), 3);
}

TEST(LossSimTest, LocalJobWithoutAnyWorkerAtTheStartOfARoundWaitsForOne) {
  Simulation sim;
  sim.AddWorkers(1);
  FakeWorker& worker = sim.worker("w0");
  v1::JobSpec spec = LocalSpec(LargeSpec());
  spec.mutable_evaluation()->set_every_rounds(3);
  const std::string name = sim.Start(spec);
  worker.Finish();
  worker.Vanish();  // while the pool merges
  sim.Settle();
  EXPECT_EQ(sim.Job(name).round(), 1);
  sim.Pass(absl::Hours(1));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  ASSERT_EQ(sim.Job(name).conditions_size(), 1);
  EXPECT_EQ(sim.Job(name).conditions(0).type(), "WAITING_WORKERS");
  ASSERT_TRUE(worker.Connect().ok());
  sim.Tick();
  EXPECT_EQ(sim.Job(name).conditions_size(), 0);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

// Both lost their worker twice and are tried alone; only one of the workers comes back.
TEST(LossSimTest, ParticipantWhoseWorkerStaysAwayDoesNotHoldAnotherUp) {
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(LocalSpec());
  sim.worker("w2").Finish();
  for (const char* id : {"w0", "w1"}) {
    FakeWorker& worker = sim.worker(id);
    worker.Vanish();
    ASSERT_TRUE(worker.Connect().ok());
    sim.Settle();
    ASSERT_TRUE(worker.busy());
    worker.Vanish();
  }
  ASSERT_TRUE(sim.worker("w1").Connect().ok());
  sim.Pass(absl::Seconds(10));
  EXPECT_TRUE(sim.worker("w1").busy());
  sim.worker("w1").Finish();
  ASSERT_TRUE(sim.worker("w0").Connect().ok());
  sim.Pass(absl::Seconds(10));
  EXPECT_TRUE(sim.worker("w0").busy());
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

}  // namespace
}  // namespace espalier::test
