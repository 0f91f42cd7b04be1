// What people do with jobs beside submitting them: pause, retry, delete, list.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/io/sha256.h"
#include "common/wire/values_codec.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

// Coordinators on one disk, one after the other.
class LifeTest : public testing::Test {
 protected:
  LifeTest() { Again(); }

  Simulation& sim() { return *sim_; }
  // The coordinator is killed, and another one begins.
  void Again(int64_t most_ended = base::Limits().max_ended_jobs) {
    sim_.reset();
    sim_ = std::make_unique<Simulation>(disk_, ++lives_, most_ended);
    sim_->AddWorkers(2);
  }
  absl::StatusOr<v1::Job> Resume(const std::string& name) {
    return Ask([&](const auto& done) { sim().jobs.Resume(name, done); });
  }
  absl::StatusOr<v1::Job> Retry(const std::string& name) {
    return Ask([&](const auto& done) { sim().jobs.Retry(name, done); });
  }
  absl::StatusOr<v1::DeleteJobResponse> Delete(const std::string& name, bool checkpoints = false) {
    v1::DeleteJobRequest request;
    request.set_name(name);
    request.set_delete_checkpoints(checkpoints);
    std::optional<absl::StatusOr<v1::DeleteJobResponse>> answer;
    sim().jobs.Delete(request, [&answer](const auto& deleted) { answer = deleted; });
    sim().Settle();
    return *answer;
  }
  std::string Start(const v1::JobSpec& spec, const std::string& id) {
    v1::CreateJobRequest request;
    *request.mutable_spec() = spec;
    request.set_job_id(id);
    request.set_request_id("request of " + id);
    std::vector<config::Violation> violations;
    EXPECT_TRUE(sim().Create(request, violations).ok());
    return "jobs/" + id;
  }
  std::string Hash(const v1::JobSpec& spec) {
    Simulation calm;
    calm.AddWorkers(2);
    const std::string name = calm.Start(spec);
    calm.Run(name);
    return calm.Job(name).model_hash();
  }
  // Files of states and updates that are too long for the store.
  int64_t Parts() const {
    const std::filesystem::directory_iterator files(disk_.folder + "/parts");
    return std::distance(begin(files), end(files));
  }
  // The job's workers are then in the middle of the next round.
  void RunUntilRound(const std::string& name, int32_t round) {
    sim().Settle();
    while (sim().Job(name).round() < round) {
      const auto busy = sim().busy();
      ASSERT_FALSE(busy.empty());
      busy.front()->Finish();
      sim().Settle();
    }
  }
  // Its deadline has passed, and the model of the round before is to be written first.
  void RunUntilItIsAboutToFail(const std::string& name) {
    sim().Pass(absl::Minutes(9));
    for (int second = 0; second < 120 && sim().Job(name).conditions().empty(); ++second) {
      sim().clock.Advance(absl::Seconds(1));
      for (FakeWorker* worker : sim().workers()) worker->Heartbeat();
      sim().jobs.Tick();
    }
    ASSERT_FALSE(sim().Job(name).conditions().empty());
  }
  // Nothing can be written where checkpoints are.
  void HideCheckpoints(bool hidden) {
    const std::string folder = disk_.folder + "/checkpoints";
    const std::string aside = disk_.folder + "/aside";
    std::filesystem::rename(hidden ? folder : aside, hidden ? aside : folder);
  }
  static std::string HashOf(const tensor::ModelState& model) {
    return io::Sha256Hex(model.topology->hash() + io::Sha256Hex(wire::ValuesAsBytes(model.values)));
  }
  std::vector<std::string> Names(const v1::ListJobsRequest& request) {
    std::vector<std::string> names;
    for (const v1::Job& job : sim().List(request)) names.push_back(job.name());
    return names;
  }

 private:
  absl::StatusOr<v1::Job> Ask(
      const std::function<void(const server::jobs::JobManager::Changed&)>& call) {
    std::optional<absl::StatusOr<v1::Job>> answer;
    call([&answer](absl::StatusOr<v1::Job> job) { answer = std::move(job); });
    sim().Settle();
    return *answer;
  }

  Disk disk_;
  uint64_t lives_ = 0;
  std::unique_ptr<Simulation> sim_;
};

// Fails at the deadline of a round in which not all results are there.
v1::JobSpec ImpatientSpec() {
  v1::JobSpec spec = LargeSpec();
  spec.mutable_federation()->set_on_quorum_loss(v1::Federation::QUORUM_POLICY_FAIL);
  return spec;
}

TEST_F(LifeTest, PausedJobGivesItsWorkersToOthersAndGoesOnWithItsResults) {
  const v1::JobSpec spec = LargeSpec();
  const std::string name = Start(spec, "first");
  ASSERT_TRUE(sim().busy()[0]->Finish() != nullptr);
  sim().Settle();
  ASSERT_THAT(sim().busy(), SizeIs(2));
  const absl::StatusOr<v1::Job> paused = sim().jobs.Pause(name);
  ASSERT_TRUE(paused.ok()) << paused.status();
  EXPECT_EQ(paused->state(), v1::Job::STATE_PAUSED);
  sim().Settle();
  EXPECT_THAT(sim().busy(), IsEmpty());
  EXPECT_GT(Parts(), 0) << "of what it goes on with";
  EXPECT_EQ(base::ReasonOf(sim().jobs.Pause(name).status()), "JOB_PAUSED");
  const std::string other = Start(SmallSpec(), "other");
  sim().Run(other);
  EXPECT_EQ(sim().State(other), v1::Job::STATE_SUCCEEDED);
  sim().Pass(absl::Hours(2));
  EXPECT_EQ(sim().State(name), v1::Job::STATE_PAUSED);
  // Watchers keep their stream.
  const auto log = sim().Find(name)->events();
  EXPECT_FALSE(log->closed());
  const absl::StatusOr<v1::Job> resumed = Resume(name);
  ASSERT_TRUE(resumed.ok()) << resumed.status();
  EXPECT_EQ(resumed->state(), v1::Job::STATE_RUNNING);
  sim().Run(name);
  EXPECT_EQ(sim().State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_TRUE(log->closed());
  EXPECT_EQ(sim().Job(name).model_hash(), Hash(spec));
  sim().Tick();
  EXPECT_EQ(Parts(), 0);
  EXPECT_EQ(base::ReasonOf(sim().jobs.Pause(name).status()), "JOB_ENDED");
  EXPECT_EQ(base::ReasonOf(Resume(name).status()), "JOB_NOT_PAUSED");
}

TEST_F(LifeTest, JobCanBePausedBeforeItBegins) {
  for (FakeWorker* worker : sim().workers()) worker->Vanish();
  const std::string name = Start(SmallSpec(), "early");
  ASSERT_TRUE(sim().jobs.Pause(name).ok());
  sim().Settle();
  Again();
  sim().Tick();
  EXPECT_EQ(sim().State(name), v1::Job::STATE_PAUSED);
  EXPECT_FALSE(sim().Job(name).has_start_time());
  ASSERT_TRUE(Resume(name).ok());
  sim().Settle();
  sim().Run(name);
  EXPECT_EQ(sim().State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim().Job(name).model_hash(), Hash(SmallSpec()));
}

TEST_F(LifeTest, OneCallAtATimeChangesAJobAtRest) {
  const std::string name = Start(LargeSpec(), "job");
  sim().Settle();
  ASSERT_TRUE(sim().jobs.Pause(name).ok());
  std::vector<std::string> reasons;
  for (int i = 0; i < 3; ++i) {
    sim().jobs.Resume(
        name, [&reasons](const auto& job) { reasons.push_back(base::ReasonOf(job.status())); });
  }
  v1::DeleteJobRequest request;
  request.set_name(name);
  sim().jobs.Delete(request, [&reasons](const auto& deleted) {
    reasons.push_back(base::ReasonOf(deleted.status()));
  });
  sim().Settle();
  EXPECT_THAT(reasons, ElementsAre("JOB_CHANGED", "JOB_CHANGED", "JOB_CHANGED", ""));
  sim().Run(name);
  EXPECT_EQ(sim().State(name), v1::Job::STATE_SUCCEEDED);
}

TEST_F(LifeTest, WatchersOfADeletedJobAreToldThatItIsTheEnd) {
  const std::string name = Start(SmallSpec(), "job");
  sim().Settle();
  ASSERT_TRUE(sim().jobs.Pause(name).ok());
  sim().Settle();
  const auto log = sim().Find(name)->events();
  EXPECT_FALSE(log->closed());
  ASSERT_TRUE(Delete(name).ok());
  EXPECT_TRUE(log->closed());
}

TEST_F(LifeTest, PausedJobKeepsTheCheckpointThatItStartsFrom) {
  sim().Run(Start(SmallSpec(), "first"));
  for (FakeWorker* worker : sim().workers()) worker->Vanish();
  v1::JobSpec spec = SmallSpec();
  spec.mutable_model()->set_pretrained("checkpoints/first-3");
  const std::string second = Start(spec, "second");
  ASSERT_TRUE(sim().jobs.Pause(second).ok());
  sim().Settle();
  for (int life = 0; life < 2; ++life) {
    EXPECT_EQ(base::ReasonOf(sim().checkpoints().Remove({"checkpoints/first-3"})),
              "CHECKPOINT_IN_USE");
    Again();
  }
  ASSERT_TRUE(Resume(second).ok());
  sim().Run(second);
  EXPECT_EQ(sim().State(second), v1::Job::STATE_SUCCEEDED);
  EXPECT_TRUE(sim().checkpoints().Remove({"checkpoints/first-3"}).ok());
}

TEST_F(LifeTest, PausedJobCanBeCancelledAndDeletedAndLeavesNoFiles) {
  const std::string cancelled = Start(LargeSpec(), "cancelled");
  const std::string deleted = Start(LargeSpec(), "deleted");
  sim().Settle();
  for (const std::string& name : {cancelled, deleted}) ASSERT_TRUE(sim().jobs.Pause(name).ok());
  sim().Settle();
  Again();
  ASSERT_GT(Parts(), 0);
  ASSERT_TRUE(sim().jobs.Cancel(cancelled).ok());
  ASSERT_TRUE(Delete(deleted).ok());
  EXPECT_EQ(sim().State(cancelled), v1::Job::STATE_CANCELLED);
  EXPECT_EQ(base::ReasonOf(sim().Found(deleted).status()), "JOB_NOT_FOUND");
  EXPECT_EQ(Parts(), 0);
  Again();
  EXPECT_EQ(sim().State(cancelled), v1::Job::STATE_CANCELLED);
  EXPECT_EQ(base::ReasonOf(sim().Found(deleted).status()), "JOB_NOT_FOUND");
}

TEST_F(LifeTest, FailedJobIsRetriedWithTheResultsThatHadArrived) {
  for (const bool again : {false, true}) {
    SCOPED_TRACE(again ? "by another coordinator" : "by the same coordinator");
    const std::string name = Start(ImpatientSpec(), again ? "second" : "first");
    sim().Settle();
    const std::string participant = sim().busy()[0]->task().participant();
    sim().busy()[0]->Finish();
    sim().Settle();
    sim().Pass(absl::Minutes(11));
    const v1::Job failed = sim().Job(name);
    ASSERT_EQ(failed.state(), v1::Job::STATE_FAILED);
    EXPECT_EQ(failed.failure_reason(), "QUORUM_LOST");
    EXPECT_TRUE(failed.has_end_time());
    EXPECT_GT(Parts(), 0);
    if (again) Again();
    sim().Tick();
    ASSERT_GT(Parts(), 0) << "files of a job that can be retried stay";
    const size_t received = sim().worker("w0").received().size();
    const absl::StatusOr<v1::Job> retried = Retry(name);
    ASSERT_TRUE(retried.ok()) << retried.status();
    EXPECT_EQ(retried->state(), v1::Job::STATE_RUNNING);
    EXPECT_EQ(retried->failure_reason() + retried->failure_message(), "");
    EXPECT_FALSE(retried->has_end_time());
    sim().Run(name);
    EXPECT_EQ(sim().State(name), v1::Job::STATE_SUCCEEDED);
    EXPECT_EQ(sim().Job(name).model_hash(), Hash(ImpatientSpec()));
    for (size_t i = received; i < sim().worker("w0").received().size(); ++i) {
      const v1::Task& task = sim().worker("w0").received()[i];
      EXPECT_FALSE(task.round() == 1 && task.has_train() && task.participant() == participant);
    }
    sim().Tick();
    EXPECT_EQ(Parts(), 0);
    EXPECT_EQ(base::ReasonOf(Retry(name).status()), "JOB_NOT_FAILED");
  }
}

TEST_F(LifeTest, FailedJobLeavesItsNewestModelAsACheckpoint) {
  for (const bool large : {false, true}) {
    for (const bool again : {false, true}) {
      SCOPED_TRACE(std::string(large ? "large" : "small") + (again ? ", after a kill" : ""));
      v1::JobSpec spec = large ? LargeSpec() : SmallSpec();
      spec.mutable_federation()->set_on_quorum_loss(v1::Federation::QUORUM_POLICY_FAIL);
      const std::string name =
          Start(spec, std::string(large ? "large" : "small") + (again ? "-again" : ""));
      RunUntilRound(name, 2);
      const std::string hash = sim().Job(name).model_hash();
      if (again) {
        Again();
        sim().Tick();
      }
      EXPECT_THAT(sim().checkpoints().List(name.substr(5)), IsEmpty());
      sim().Pass(absl::Minutes(11));
      const v1::Job failed = sim().Job(name);
      ASSERT_EQ(failed.state(), v1::Job::STATE_FAILED);
      const auto kept = sim().checkpoints().List(name.substr(5));
      ASSERT_THAT(kept, SizeIs(1));
      EXPECT_EQ(kept[0].round, 2);
      EXPECT_EQ(failed.latest_checkpoint(), kept[0].name);
      const auto loaded = sim().checkpoints().Load(kept[0].name);
      ASSERT_TRUE(loaded.ok()) << loaded.status();
      EXPECT_EQ(HashOf(loaded->state), hash);
      const auto events = sim().Events(name);
      ASSERT_GE(events.size(), 2);
      EXPECT_EQ(events[events.size() - 2].checkpoint_written().name(), kept[0].name);
      EXPECT_TRUE(events.back().has_state_changed());
    }
  }
}

TEST_F(LifeTest, JobThatFailsTwiceInARoundWritesItsModelOnce) {
  const std::string name = Start(ImpatientSpec(), "job");
  RunUntilRound(name, 1);
  for (int time = 0; time < 2; ++time) {
    sim().Pass(absl::Minutes(11));
    ASSERT_EQ(sim().State(name), v1::Job::STATE_FAILED);
    EXPECT_THAT(sim().Events(name, v1::JobEvent::kCheckpointWritten), SizeIs(1));
    ASSERT_TRUE(Retry(name).ok());
    sim().Settle();
  }
  sim().Run(name);
  EXPECT_EQ(sim().State(name), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim().Job(name).model_hash(), Hash(ImpatientSpec()));
}

TEST_F(LifeTest, NewestModelOfAFailedJobIsToldOfWhenItsFileWasThereBeforeAKill) {
  const std::string name = Start(ImpatientSpec(), "job");
  RunUntilRound(name, 1);
  RunUntilItIsAboutToFail(name);
  sim().pool.RunAll();
  ASSERT_THAT(sim().checkpoints().List("job"), SizeIs(1));
  EXPECT_THAT(sim().Events(name, v1::JobEvent::kCheckpointWritten), IsEmpty());
  Again();
  sim().Pass(absl::Minutes(11));
  const v1::Job failed = sim().Job(name);
  ASSERT_EQ(failed.state(), v1::Job::STATE_FAILED);
  EXPECT_EQ(failed.latest_checkpoint(), "checkpoints/job-1");
  EXPECT_THAT(sim().Events(name, v1::JobEvent::kCheckpointWritten), SizeIs(1));
}

TEST_F(LifeTest, FailedJobLeavesItsNewestModelAlsoWhereJobsAreNotKept) {
  Simulation sim;
  sim.AddWorkers(2);
  const std::string name = sim.Start(ImpatientSpec());
  sim.Settle();
  while (sim.Job(name).round() < 1) {
    sim.busy().front()->Finish();
    sim.Settle();
  }
  sim.Pass(absl::Minutes(11));
  const v1::Job failed = sim.Job(name);
  ASSERT_EQ(failed.state(), v1::Job::STATE_FAILED);
  EXPECT_TRUE(sim.checkpoints().Get(failed.latest_checkpoint()).ok());
}

TEST_F(LifeTest, JobThatIsAboutToFailCanBeCancelled) {
  const std::string name = Start(ImpatientSpec(), "job");
  RunUntilRound(name, 1);
  RunUntilItIsAboutToFail(name);
  EXPECT_EQ(base::ReasonOf(sim().jobs.Pause(name).status()), "JOB_ENDED");
  ASSERT_TRUE(sim().jobs.Cancel(name).ok());
  sim().Settle();
  EXPECT_EQ(sim().State(name), v1::Job::STATE_CANCELLED);
  Again();
  EXPECT_EQ(sim().State(name), v1::Job::STATE_CANCELLED);
}

TEST_F(LifeTest, JobFailsAlsoWhereItsNewestModelCannotBeWritten) {
  const std::string name = Start(ImpatientSpec(), "job");
  RunUntilRound(name, 1);
  HideCheckpoints(true);
  sim().Pass(absl::Minutes(11));
  HideCheckpoints(false);
  const v1::Job failed = sim().Job(name);
  ASSERT_EQ(failed.state(), v1::Job::STATE_FAILED);
  EXPECT_EQ(failed.failure_reason(), "QUORUM_LOST");
  EXPECT_THAT(failed.failure_message(), HasSubstr("could not be written as a checkpoint"));
  EXPECT_EQ(failed.latest_checkpoint(), "");
  // It is there for the next attempt.
  Again();
  ASSERT_TRUE(Retry(name).ok());
  sim().Pass(absl::Minutes(11));
  EXPECT_THAT(sim().checkpoints().List("job"), SizeIs(1));
}

TEST_F(LifeTest, EventsOfARetriedJobGoOnWithTheirNumbers) {
  const std::string name = Start(ImpatientSpec(), "job");
  sim().Settle();
  sim().Pass(absl::Minutes(11));
  const auto before = sim().Events(name);
  EXPECT_EQ(before.back().state_changed().state(), v1::Job::STATE_FAILED);
  ASSERT_TRUE(Retry(name).ok());
  sim().Run(name);
  const auto after = sim().Events(name);
  ASSERT_GT(after.size(), before.size());
  for (size_t i = 0; i < after.size(); ++i) {
    EXPECT_EQ(after[i].sequence(), static_cast<int64_t>(i) + 1);
    if (i >= before.size()) continue;
    EXPECT_EQ(after[i].SerializeAsString(), before[i].SerializeAsString());
  }
}

TEST_F(LifeTest, EndedJobsAreShownFromTheStore) {
  const std::string name = Start(SmallSpec(), "job");
  sim().Run(name);
  const v1::Job before = sim().Job(name);
  const size_t events = sim().Events(name).size();
  for (int life = 0; life < 2; ++life) {
    sim().Tick();
    sim().Pass(absl::Minutes(2));
    const v1::Job job = sim().Job(name);
    EXPECT_EQ(job.SerializeAsString(), before.SerializeAsString());
    EXPECT_EQ(sim().Events(name).size(), events);
    EXPECT_TRUE(sim().Find(name)->events()->closed());
    EXPECT_EQ(sim().Find(name)->rounds().size(), 3U);
    EXPECT_THAT(Names({}), ElementsAre(name));
    EXPECT_EQ(base::ReasonOf(sim().jobs.Cancel(name).status()), "JOB_ENDED");
    // A repeated call gets its job.
    v1::CreateJobRequest request;
    *request.mutable_spec() = SmallSpec();
    request.set_request_id("request of job");
    std::vector<config::Violation> violations;
    const auto repeated = sim().Create(request, violations);
    ASSERT_TRUE(repeated.ok()) << repeated.status();
    EXPECT_EQ(repeated->name(), name);
    Again();
  }
}

TEST_F(LifeTest, DeletedJobIsGoneWithItsCheckpointsIfThatIsWanted) {
  const std::string with = Start(SmallSpec(), "with");
  const std::string without = Start(SmallSpec(), "without");
  for (const std::string& name : {with, without}) sim().Run(name);
  const auto kept = Delete(without);
  ASSERT_TRUE(kept.ok()) << kept.status();
  EXPECT_EQ(kept->checkpoints_deleted(), 0);
  EXPECT_THAT(sim().checkpoints().List("without"), SizeIs(1));
  const auto deleted = Delete(with, true);
  ASSERT_TRUE(deleted.ok()) << deleted.status();
  EXPECT_EQ(deleted->checkpoints_deleted(), 1);
  EXPECT_GT(deleted->bytes_deleted(), 0);
  EXPECT_THAT(sim().checkpoints().List("with"), IsEmpty());
  Again();
  EXPECT_THAT(Names({}), IsEmpty());
  // Only an id without checkpoints is free again.
  EXPECT_EQ(Start(SmallSpec(), "with"), with);
  v1::CreateJobRequest request;
  *request.mutable_spec() = SmallSpec();
  request.set_job_id("without");
  std::vector<config::Violation> violations;
  EXPECT_EQ(base::ReasonOf(sim().Create(request, violations).status()), "JOB_EXISTS");
  EXPECT_EQ(base::ReasonOf(Delete("jobs/nobody").status()), "JOB_NOT_FOUND");
}

TEST_F(LifeTest, JobInWorkIsNotDeleted) {
  const std::string name = Start(SmallSpec(), "job");
  sim().Settle();
  const absl::Status status = Delete(name, true).status();
  EXPECT_EQ(base::ReasonOf(status), "JOB_IN_WORK");
  sim().Run(name);
  EXPECT_EQ(sim().State(name), v1::Job::STATE_SUCCEEDED);
}

TEST_F(LifeTest, CheckpointThatAJobStartsFromStays) {
  const std::string first = Start(SmallSpec(), "first");
  sim().Run(first);
  v1::JobSpec spec = SmallSpec();
  spec.mutable_model()->set_pretrained("checkpoints/first-3");
  const std::string second = Start(spec, "second");
  sim().Settle();
  EXPECT_EQ(base::ReasonOf(Delete(first, true).status()), "CHECKPOINT_IN_USE");
  EXPECT_EQ(sim().State(first), v1::Job::STATE_SUCCEEDED) << "nothing of it was deleted";
  sim().Run(second);
  EXPECT_TRUE(Delete(first, true).ok());
}

TEST_F(LifeTest, OnlyTheNewestEndedJobsAreKept) {
  Again(2);
  for (const char* id : {"a", "b", "c"}) sim().Run(Start(SmallSpec(), id));
  const std::string running = Start(SmallSpec(), "running");
  sim().Tick();
  EXPECT_THAT(Names({}), ElementsAre("jobs/running", "jobs/c", "jobs/b"));
  EXPECT_THAT(sim().checkpoints().List("a"), SizeIs(1)) << "models stay";
  Again(1);
  sim().Tick();
  EXPECT_THAT(Names({}), ElementsAre("jobs/running", "jobs/c"));
  Again();
  EXPECT_THAT(Names({}), ElementsAre("jobs/running", "jobs/c"));
}

TEST_F(LifeTest, ListsAreFilteredAndOrdered) {
  v1::JobSpec spec = SmallSpec();
  spec.set_display_name("The Second Try");
  const std::string b = Start(SmallSpec(), "b");
  const std::string a = Start(spec, "a");
  spec.mutable_method()->set_name("static");
  const std::string c = Start(spec, "c");
  ASSERT_TRUE(sim().jobs.Pause(a).ok());
  ASSERT_TRUE(sim().jobs.Cancel(c).ok());
  sim().Run(b);
  sim().Tick();
  for (int life = 0; life < 2; ++life) {
    v1::ListJobsRequest request;
    EXPECT_THAT(Names(request), ElementsAre(c, a, b));
    request.set_order(v1::ListJobsRequest::ORDER_OLDEST);
    EXPECT_THAT(Names(request), ElementsAre(b, a, c));
    request.set_order(v1::ListJobsRequest::ORDER_NAME);
    EXPECT_THAT(Names(request), ElementsAre(a, b, c));
    request.set_contains("sECOND");
    EXPECT_THAT(Names(request), ElementsAre(a, c));
    request.set_method("static");
    EXPECT_THAT(Names(request), ElementsAre(c));
    request.Clear();
    request.add_states(v1::Job::STATE_SUCCEEDED);
    request.add_states(v1::Job::STATE_CANCELLED);
    EXPECT_THAT(Names(request), ElementsAre(c, b));
    Again();
  }
  v1::ListJobsRequest wrong;
  wrong.add_states(v1::Job::STATE_UNSPECIFIED);
  EXPECT_EQ(base::ReasonOf(sim().jobs.Select(wrong).status()), "INVALID_FILTER");
  wrong.Clear();
  wrong.set_contains(std::string(201, 'x'));
  EXPECT_EQ(base::ReasonOf(sim().jobs.Select(wrong).status()), "INVALID_FILTER");
}

TEST(LifeWithoutStoreTest, WhatNeedsAStoreSaysSo) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(SmallSpec());
  EXPECT_EQ(base::ReasonOf(sim.jobs.Pause(name).status()), "JOBS_NOT_KEPT");
  absl::Status retried;
  sim.jobs.Retry(name, [&retried](const auto& job) { retried = job.status(); });
  EXPECT_EQ(base::ReasonOf(retried), "JOBS_NOT_KEPT");
  EXPECT_THAT(base::MessageOf(retried), HasSubstr("--store sqlite"));
  sim.Run(name);
  v1::DeleteJobRequest request;
  request.set_name(name);
  bool deleted = false;
  sim.jobs.Delete(request, [&deleted](const auto& answer) { deleted = answer.ok(); });
  EXPECT_TRUE(deleted);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_UNSPECIFIED);
}

}  // namespace
}  // namespace espalier::test
