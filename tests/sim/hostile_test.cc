// Workers that send what no honest one sends, or that come and go: what the coordinator makes of
// them, and that others do not notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <string>

#include "common/base/status.h"
#include "common/io/sha256.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

std::string UndisturbedHash(const v1::JobSpec& spec) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(spec);
  sim.Run(name);
  return sim.Job(name).model_hash();
}

v1::JobSpec LongSpec() {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_rounds(12);
  return spec;
}

v1::Worker::State StateOf(const Simulation& sim, const std::string& worker) {
  return sim.fleet.Find(worker)->state();
}

std::shared_ptr<Answer> SendPoison(Simulation& sim, FakeWorker& worker) {
  Update update = worker.Compute();
  const float poison = std::nanf("");
  std::memcpy(update.body.data(), &poison, sizeof poison);
  update.header.set_body_sha256(io::Sha256Hex(update.body));
  const auto answer = worker.Send(update);
  sim.Settle();
  return answer;
}

// Everybody works for a second, the poisoner in its own way. Returns how many of its results came.
int WorkBesidePoisoner(Simulation& sim, const std::string& poisoner) {
  int poisoned = 0;
  for (FakeWorker* worker : sim.busy()) {
    if (!worker->busy()) continue;
    if (worker->id() != poisoner || !worker->task().has_train()) {
      EXPECT_TRUE(worker->Finish()->status.ok());
    } else {
      EXPECT_EQ(base::ReasonOf(SendPoison(sim, *worker)->status), "NON_FINITE");
      ++poisoned;
    }
    sim.Settle();
  }
  sim.Tick();
  return poisoned;
}

TEST(HostileSimTest, PoisonerAmongGoodWorkersIsPutIntoQuarantineAndTheModelIsThatOfTheOthers) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(LongSpec());
  int poisoned = 0;
  while (sim.State(name) == v1::Job::STATE_RUNNING) poisoned += WorkBesidePoisoner(sim, "w2");
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).model_hash(), UndisturbedHash(LongSpec()));
  EXPECT_EQ(poisoned, 3) << "it was given a task in quarantine";
  EXPECT_EQ(StateOf(sim, "w2"), v1::Worker::STATE_QUARANTINED);
  const v1::Worker& view = *sim.fleet.Find("w2");
  EXPECT_THAT(view.quarantine_reason(), HasSubstr("NON_FINITE"));
  EXPECT_GT(view.quarantine_end_time().seconds(), view.last_seen_time().seconds());
  for (const char* good : {"w0", "w1", "w3"}) {
    EXPECT_EQ(StateOf(sim, good), v1::Worker::STATE_ACTIVE);
  }
}

// The poisoner in a worker that is alone with its job's data.
class QuarantineSimTest : public testing::Test {
 protected:
  QuarantineSimTest() {
    sim_.AddWorkers(2);
    name_ = sim_.Start(LongSpec());
  }

  // Of results of w0 that are refused by their headers: the task stays with it.
  void Strike(int times) {
    for (int i = 0; i < times; ++i) {
      Update update = w0().Compute();
      update.header.set_topology_hash(std::string(64, 'a'));
      EXPECT_EQ(base::ReasonOf(w0().Send(update)->status), "TOPOLOGY_VERSION_MISMATCH");
    }
    sim_.Settle();
  }
  FakeWorker& w0() { return sim_.worker("w0"); }
  void ExpectUnharmed() {
    sim_.Run(name_);
    EXPECT_EQ(sim_.State(name_), v1::Job::STATE_SUCCEEDED);
    EXPECT_EQ(sim_.Job(name_).model_hash(), UndisturbedHash(LongSpec()));
  }

  Simulation sim_;
  std::string name_;
};

TEST_F(QuarantineSimTest, TheTaskOfAWorkerInQuarantineGoesToAnotherAndNobodyBlamesTheTask) {
  ASSERT_TRUE(w0().busy());
  Strike(2);
  EXPECT_TRUE(w0().busy());
  Strike(1);
  EXPECT_FALSE(w0().busy());
  EXPECT_TRUE(w0().connected());
  ASSERT_FALSE(w0().cancelled().empty());
  EXPECT_EQ(w0().cancelled().back().reason(), "WORKER_QUARANTINED");
  const auto reassigned = sim_.Events(name_, v1::JobEvent::kTaskReassigned);
  ASSERT_EQ(reassigned.size(), 1U);
  EXPECT_EQ(reassigned[0].task_reassigned().reason(), "WORKER_QUARANTINED");
  EXPECT_EQ(reassigned[0].task_reassigned().worker(), "w0");
  EXPECT_EQ(sim_.fleet.lease_expirations(), 1U);
  ExpectUnharmed();
  EXPECT_EQ(sim_.fleet.Find("w0")->tasks_completed(), 0);
}

TEST_F(QuarantineSimTest, ConnectingAgainDoesNotHelp) {
  Strike(3);
  w0().Vanish();
  sim_.Pass(absl::Seconds(20));
  ASSERT_TRUE(w0().Connect().ok());
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_QUARANTINED);
  EXPECT_FALSE(w0().busy());
  // Nor does it to leave on purpose.
  w0().Leave();
  w0().Vanish();
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_LEFT);
  EXPECT_FALSE(sim_.fleet.Find("w0")->has_quarantine_end_time());
  sim_.Pass(absl::Seconds(20));
  ASSERT_TRUE(w0().Connect().ok());
  EXPECT_FALSE(w0().busy());
  sim_.Pass(absl::Seconds(30));
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_ACTIVE);
  EXPECT_FALSE(sim_.fleet.Find("w0")->has_quarantine_end_time());
  EXPECT_TRUE(w0().busy());
  ExpectUnharmed();
}

TEST_F(QuarantineSimTest, AJobThatHasNobodyElseWaitsAndSaysWhy) {
  sim_.worker("w1").Leave();
  sim_.worker("w1").Vanish();
  Strike(3);
  sim_.Pass(absl::Seconds(5));
  ASSERT_EQ(sim_.Job(name_).conditions_size(), 1);
  EXPECT_EQ(sim_.Job(name_).conditions(0).type(), "WAITING_WORKERS");
  EXPECT_THAT(sim_.Job(name_).conditions(0).message(),
              HasSubstr("0 workers are connected; 1 more take no tasks, since they are in "
                        "quarantine"));
  // A job that has not begun says it, too.
  const std::string other = sim_.Start(SmallSpec());
  sim_.Tick();
  ASSERT_EQ(sim_.Job(other).conditions_size(), 1);
  EXPECT_THAT(sim_.Job(other).conditions(0).message(), HasSubstr("in quarantine"));
  sim_.Pass(absl::Minutes(1));
  EXPECT_THAT(sim_.Job(name_).conditions(), IsEmpty());
  ExpectUnharmed();
}

TEST_F(QuarantineSimTest, UndrainEndsItAndWhatWasNotedIsForgotten) {
  Strike(3);
  // An operator's wish does not hide it.
  ASSERT_TRUE(sim_.fleet.SetDraining("w0", true).ok());
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_QUARANTINED);
  const auto undrained = sim_.fleet.SetDraining("w0", false);
  ASSERT_TRUE(undrained.ok());
  EXPECT_EQ(undrained->state(), v1::Worker::STATE_ACTIVE);
  EXPECT_TRUE(w0().busy());
  Strike(2);
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_ACTIVE);
  ExpectUnharmed();
}

TEST_F(QuarantineSimTest, AWorkerThatIsDrainedStaysSoWhenItsQuarantineEnds) {
  ASSERT_TRUE(sim_.fleet.SetDraining("w0", true).ok());
  Strike(3);
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_QUARANTINED);
  sim_.Pass(absl::Minutes(2));
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_DRAINING);
  ExpectUnharmed();
}

TEST_F(QuarantineSimTest, TheSameResultSentAgainAndLateOnesAreNoStrikes) {
  Update wrong = w0().Compute();
  wrong.header.set_topology_hash(std::string(64, 'a'));
  for (int i = 0; i < 10; ++i) w0().Send(wrong);
  Update late = w0().Compute();
  late.header.mutable_epoch()->set_counter(late.header.epoch().counter() + 1000);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(base::ReasonOf(w0().Send(late)->status), "LEASE_EXPIRED");
  }
  sim_.Settle();
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_ACTIVE);
  ExpectUnharmed();
}

TEST_F(QuarantineSimTest, TasksThatFailAreNoStrikes) {
  for (int i = 0; i < 2; ++i) {
    w0().Fail("OUT_OF_MEMORY", "too small");
    sim_.Settle();
    ASSERT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_ACTIVE);
    if (!w0().busy()) break;
  }
  ExpectUnharmed();
}

TEST_F(QuarantineSimTest, ABodyThatIsNotTheOneOfItsHeaderIsAStrike) {
  for (int i = 0; i < 3; ++i) {
    const Update update = w0().Compute();
    sim_.jobs.Refused(update.header, base::MakeError(absl::StatusCode::kDataLoss,
                                                     "BLOB_DIGEST_MISMATCH", "another digest"));
    sim_.jobs.Refused(update.header,
                      base::MakeError(absl::StatusCode::kDataLoss, "CHUNK_CORRUPT", "damage"));
  }
  sim_.Settle();
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_QUARANTINED);
  ExpectUnharmed();
}

// One answers for another: it is the one whose session it is who is known for that.
TEST_F(QuarantineSimTest, AnsweringForAnotherIsAStrikeOfTheOneWhoDoes) {
  for (int i = 0; i < 3; ++i) {
    Update stolen = w0().Compute();
    stolen.header.set_session(sim_.worker("w1").session());
    const auto answer = w0().Send(stolen);
    EXPECT_EQ(answer->status.code(), absl::StatusCode::kPermissionDenied);
    EXPECT_EQ(base::ReasonOf(answer->status), "LEASE_OF_ANOTHER");
  }
  sim_.Settle();
  EXPECT_EQ(StateOf(sim_, "w0"), v1::Worker::STATE_ACTIVE);
  EXPECT_EQ(StateOf(sim_, "w1"), v1::Worker::STATE_QUARANTINED);
  ExpectUnharmed();
}

// -- flapping --

// The worker's connection ends every few seconds and comes back; the others work.
void Flap(Simulation& sim, FakeWorker& worker, absl::Duration apart, int times) {
  for (int i = 0; i < times; ++i) {
    worker.Vanish();
    sim.Tick();
    ASSERT_TRUE(worker.Connect().ok());
    sim.Settle();
    sim.Pass(apart);
  }
}

TEST(FlappingSimTest, AWorkerThatComesAndGoesIsKeptFromTasksAndOthersAreUnaffected) {
  Simulation sim;
  sim.AddWorkers(3);
  const std::string name = sim.Start(LongSpec());
  int given = 0;
  while (sim.State(name) == v1::Job::STATE_RUNNING) {
    FakeWorker& flapper = sim.worker("w1");
    given += flapper.busy() ? 1 : 0;
    flapper.Vanish();
    for (FakeWorker* worker : sim.busy()) {
      if (!worker->busy()) continue;
      EXPECT_TRUE(worker->Finish()->status.ok());
      sim.Settle();
    }
    sim.Tick();
    ASSERT_TRUE(flapper.Connect().ok());
    sim.Settle();
  }
  EXPECT_LE(given, 6);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.Job(name).model_hash(), UndisturbedHash(LongSpec()));
  EXPECT_EQ(StateOf(sim, "w1"), v1::Worker::STATE_QUARANTINED);
  EXPECT_THAT(sim.fleet.Find("w1")->quarantine_reason(), HasSubstr("came and went"));
}

TEST(FlappingSimTest, ItIsAdmittedAgainAfterATimeThatDoubles) {
  Simulation sim;
  sim.AddWorkers(1);
  FakeWorker& worker = sim.worker("w0");
  Flap(sim, worker, absl::Seconds(2), 6);
  EXPECT_EQ(StateOf(sim, "w0"), v1::Worker::STATE_QUARANTINED);
  sim.Pass(absl::Minutes(1));
  EXPECT_EQ(StateOf(sim, "w0"), v1::Worker::STATE_ACTIVE);
  Flap(sim, worker, absl::Seconds(2), 6);
  sim.Pass(absl::Minutes(1));
  EXPECT_EQ(StateOf(sim, "w0"), v1::Worker::STATE_QUARANTINED);
  sim.Pass(absl::Minutes(1));
  EXPECT_EQ(StateOf(sim, "w0"), v1::Worker::STATE_ACTIVE);
}

TEST(FlappingSimTest, RestartsOfCoordinatorAndWorkersAndPartitionsAreNot) {
  // A coordinator that is started again and again knows nothing of the lives before.
  Disk disk;
  for (int life = 0; life < 10; ++life) {
    Simulation sim(disk, life + 1);
    sim.AddWorkers(2);
    EXPECT_EQ(StateOf(sim, "w0"), v1::Worker::STATE_ACTIVE);
  }
  Simulation sim;
  sim.AddWorkers(4);
  // Workers that are ended on purpose one after the other, again and again.
  for (int i = 0; i < 10; ++i) {
    for (FakeWorker* worker : sim.workers()) {
      worker->Leave();
      worker->Vanish();
      sim.Tick();
      ASSERT_TRUE(worker->Connect().ok());
    }
  }
  // A network that fails for most of them at once, again and again.
  for (int i = 0; i < 10; ++i) {
    for (const char* id : {"w0", "w1", "w2"}) sim.worker(id).Vanish();
    sim.Tick();
    for (const char* id : {"w0", "w1", "w2"}) ASSERT_TRUE(sim.worker(id).Connect().ok());
    sim.Tick();
  }
  // A restart of each of them without a word.
  for (FakeWorker* worker : sim.workers()) Flap(sim, *worker, absl::Seconds(3), 1);
  for (FakeWorker* worker : sim.workers()) {
    EXPECT_EQ(StateOf(sim, worker->id()), v1::Worker::STATE_ACTIVE) << worker->id();
  }
}

// A worker that is killed again and again, but does its tasks in between, is of use.
TEST(FlappingSimTest, AWorkerThatHasGoodResultsBetweenIsNot) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(LongSpec());
  FakeWorker& worker = sim.worker("w0");
  int lives = 0;
  for (int i = 0; i < 60 && sim.State(name) == v1::Job::STATE_RUNNING; ++i) {
    if (worker.busy()) {
      ASSERT_TRUE(worker.Finish()->status.ok());
      sim.Settle();
      worker.Vanish();
      ASSERT_TRUE(worker.Connect().ok());
      EXPECT_EQ(StateOf(sim, "w0"), v1::Worker::STATE_ACTIVE) << lives;
      ++lives;
    } else if (sim.worker("w1").busy()) {
      sim.worker("w1").Finish();
    }
    sim.Tick();
  }
  EXPECT_GE(lives, 7);
  sim.Run(name);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

}  // namespace
}  // namespace espalier::test
