// How much of a cluster a user may take.
#include "common/config/access/quotas.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::AllOf;
using testing::HasSubstr;

config::Quotas QuotasOf(const std::string& yaml) {
  return config::ParseQuotas(yaml, "quotas.yaml").value();
}

v1::JobSpec Rounds(int rounds) {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_rounds(rounds);
  return spec;
}

// Tasks in work, by the owner of their jobs.
std::map<std::string, int> InWork(Simulation& sim) {
  std::map<std::string, int> in_work;
  for (FakeWorker* worker : sim.busy()) ++in_work[worker->task().submitter()];
  return in_work;
}

std::string Condition(Simulation& sim, const std::string& name) {
  const v1::Job job = sim.Job(name);
  if (job.conditions_size() == 0) return "";
  return job.conditions(0).type() + ": " + job.conditions(0).message();
}

absl::StatusOr<v1::Job> Create(Simulation& sim, const std::string& owner,
                               const std::string& request_id = "") {
  v1::CreateJobRequest request;
  *request.mutable_spec() = SmallSpec();
  request.set_request_id(request_id);
  std::vector<config::Violation> violations;
  return sim.Create(request, violations, owner);
}

std::string Refusal(const absl::StatusOr<v1::Job>& job) {
  EXPECT_EQ(job.status().code(), absl::StatusCode::kResourceExhausted) << job.status();
  EXPECT_EQ(base::ReasonOf(job.status()), "QUOTA_EXCEEDED");
  return base::MessageOf(job.status());
}

// -- running tasks --

TEST(QuotasSimTest, FewerTasksThanAStepHasOnlySlowTheJob) {
  std::string hashes[2];
  for (const bool limited : {false, true}) {
    Simulation sim;
    sim.AddWorkers(4);
    if (limited) sim.jobs.SetQuotas(QuotasOf("default: {running_tasks: 2}"));
    const std::string name = sim.Start(SmallSpec(), "ada");
    while (sim.State(name) == v1::Job::STATE_RUNNING && !sim.busy().empty()) {
      EXPECT_LE(sim.busy().size(), limited ? 2U : 4U);
      sim.busy().back()->Finish();
      sim.Settle();
    }
    EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
    hashes[limited ? 1 : 0] = sim.Job(name).model_hash();
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

TEST(QuotasSimTest, WorkersThatAQuotaLeavesFreeDoTheJobsOfOthers) {
  Simulation sim;
  sim.AddWorkers(4);
  sim.jobs.SetQuotas(QuotasOf("users: {ada: {running_tasks: 1}}"));
  const std::string of_ada = sim.Start(Rounds(100), "ada");
  EXPECT_EQ(sim.busy().size(), 1U);
  const std::string of_bob = sim.Start(SmallSpec(), "bob");
  EXPECT_EQ(InWork(sim)["ada"], 1);
  EXPECT_EQ(InWork(sim)["bob"], 3);
  const std::string of_nobody = sim.Start(SmallSpec());
  // The first worker is ada's, and does not finish.
  const auto last = [](const auto& busy) { return busy.size() - 1; };
  sim.Run(of_bob, last);
  sim.Run(of_nobody, last);
  EXPECT_EQ(sim.State(of_bob), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(sim.State(of_nobody), v1::Job::STATE_SUCCEEDED);
  EXPECT_EQ(InWork(sim)["ada"], 1);
  EXPECT_EQ(sim.State(of_ada), v1::Job::STATE_RUNNING);
}

TEST(QuotasSimTest, JobsOfOneUserTakeTurnsWithinTheQuota) {
  Simulation sim;
  // Each can do one of the jobs.
  sim.Add("w0", {"toy"});
  sim.Add("w1", {"other"});
  sim.jobs.SetQuotas(QuotasOf("default: {running_tasks: 1}"));
  v1::JobSpec spec = Rounds(20);
  const std::string first = sim.Start(spec, "ada");
  spec.mutable_data()->set_dataset("other");
  const std::string second = sim.Start(spec, "ada");
  sim.Tick();
  EXPECT_THAT(Condition(sim, second),
              AllOf(HasSubstr("WAITING_QUOTA"), HasSubstr("'ada'"), HasSubstr("at most 1 tasks")));
  std::map<std::string, int> done;
  for (int i = 0; i < 40; ++i) {
    ASSERT_EQ(sim.busy().size(), 1U);
    ++done[sim.busy().front()->task().job()];
    sim.busy().front()->Finish();
    sim.Settle();
  }
  EXPECT_GE(done[first], 15);
  EXPECT_GE(done[second], 15);
}

TEST(QuotasSimTest, UsersTakeTurnsHoweverManyJobsOneOfThemHas) {
  Simulation sim;
  sim.AddWorkers(4);
  for (int i = 0; i < 5; ++i) sim.Start(Rounds(100), "ada");
  sim.Start(Rounds(100), "bob");
  std::map<std::string, int> done;
  for (size_t i = 0; i < 200; ++i) {
    const auto busy = sim.busy();
    ASSERT_FALSE(busy.empty());
    FakeWorker& worker = *busy[i % busy.size()];
    ++done[worker.task().submitter()];
    worker.Finish();
    sim.Settle();
  }
  // At the end of a round of bob's only job, nothing of it waits. One job of six would have 33.
  EXPECT_GE(done["ada"], 80);
  EXPECT_GE(done["bob"], 60);
}

TEST(QuotasSimTest, QuotaThatChangesHoldsForTheTasksThatFollow) {
  Simulation sim;
  sim.AddWorkers(4);
  const std::string name = sim.Start(Rounds(10), "ada");
  EXPECT_EQ(sim.busy().size(), 4U);
  sim.jobs.SetQuotas(QuotasOf("default: {running_tasks: 0}"));
  EXPECT_EQ(sim.busy().size(), 4U) << "what is in work goes on";
  while (!sim.busy().empty()) {
    sim.busy().front()->Finish();
    sim.Settle();
  }
  // It waits for as long as it has to: its deadline does not run.
  sim.Pass(absl::Hours(3));
  EXPECT_EQ(sim.State(name), v1::Job::STATE_RUNNING);
  EXPECT_THAT(Condition(sim, name), HasSubstr("WAITING_QUOTA"));
  sim.jobs.SetQuotas(QuotasOf("users: {ada: {running_tasks: 3}}"));
  EXPECT_FALSE(sim.busy().empty()) << "what waited is given out at once";
  sim.Tick();
  EXPECT_EQ(Condition(sim, name), "");
  size_t most = 0;
  while (sim.State(name) == v1::Job::STATE_RUNNING && !sim.busy().empty()) {
    most = std::max(most, sim.busy().size());
    sim.busy().front()->Finish();
    sim.Settle();
  }
  EXPECT_EQ(most, 3U);
  EXPECT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
}

TEST(QuotasSimTest, TasksOfWorkersThatVanishMakeRoom) {
  Simulation sim;
  sim.AddWorkers(3);
  sim.jobs.SetQuotas(QuotasOf("default: {running_tasks: 1}"));
  const std::string name = sim.Start(SmallSpec(), "ada");
  ASSERT_EQ(sim.busy().size(), 1U);
  sim.busy().front()->Vanish();
  sim.Tick();
  EXPECT_EQ(sim.busy().size(), 1U);
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  sim.Settle();
  const std::string next = sim.Start(SmallSpec(), "ada");
  sim.Run(next);
  EXPECT_EQ(sim.State(next), v1::Job::STATE_SUCCEEDED);
}

// Whatever happens, nobody has more in work than the quota, nobody who could go on stands still, and
// all jobs end.
TEST(QuotasSimTest, RandomHistoriesKeepToTheQuotas) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    base::Rng rng(base::StreamKey(seed, "quotas", {}));
    Simulation sim;
    sim.AddWorkers(4);
    sim.jobs.SetQuotas(QuotasOf("users: {ada: {running_tasks: 2}, bob: {running_tasks: 1}}"));
    std::vector<std::string> jobs;
    for (const char* owner : {"ada", "bob", "ada", "carl", "bob"}) {
      jobs.push_back(sim.Start(SmallSpec(), owner));
    }
    const auto all_ended = [&] {
      return std::ranges::all_of(
          jobs, [&](const auto& job) { return sim.State(job) == v1::Job::STATE_SUCCEEDED; });
    };
    for (int move = 0; move < 2000 && !all_ended(); ++move) {
      auto in_work = InWork(sim);
      ASSERT_LE(in_work["ada"], 2) << "seed " << seed;
      ASSERT_LE(in_work["bob"], 1) << "seed " << seed;
      FakeWorker& worker = sim.worker("w" + std::to_string(rng.Below(4)));
      if (!worker.connected()) {
        ASSERT_TRUE(worker.Connect().ok());
      } else if (worker.busy() && rng.Below(8) == 0) {
        worker.Vanish();
      } else if (worker.busy()) {
        worker.Finish();
      } else {
        sim.Tick();
      }
      sim.Settle();
    }
    EXPECT_TRUE(all_ended()) << "seed " << seed;
  }
}

// -- jobs --

class JobQuotasTest : public testing::Test {
 protected:
  JobQuotasTest() { Again(); }

  Simulation& sim() { return *sim_; }
  // The coordinator is killed, and another one begins with these quotas.
  void Again(const std::string& yaml = "default: {jobs: 2}") {
    sim_.reset();
    sim_ = std::make_unique<Simulation>(disk_, ++lives_);
    sim_->jobs.SetQuotas(QuotasOf(yaml));
    sim_->AddWorkers(2);
    sim_->Settle();
  }
  using Call = void (server::jobs::JobManager::*)(const std::string&,
                                                  const server::jobs::JobManager::Changed&);
  absl::StatusOr<v1::Job> Change(Call call, const std::string& name) {
    std::optional<absl::StatusOr<v1::Job>> answer;
    (sim().jobs.*call)(name, [&answer](const auto& job) { answer = job; });
    sim().Settle();
    return *answer;
  }
  absl::StatusOr<v1::Job> Resume(const std::string& name) {
    return Change(&server::jobs::JobManager::Resume, name);
  }
  absl::StatusOr<v1::Job> Retry(const std::string& name) {
    return Change(&server::jobs::JobManager::Retry, name);
  }
  void Delete(const std::string& name, bool checkpoints) {
    v1::DeleteJobRequest request;
    request.set_name(name);
    request.set_delete_checkpoints(checkpoints);
    sim().jobs.Delete(request, [](const auto& deleted) { EXPECT_TRUE(deleted.ok()); });
    sim().Settle();
  }

 private:
  Disk disk_;
  uint64_t lives_ = 0;
  std::unique_ptr<Simulation> sim_;
};

TEST_F(JobQuotasTest, JobsBeyondTheQuotaAreRefusedAndSayWhatToDo) {
  const std::string first = Create(sim(), "ada", "first")->name();
  ASSERT_TRUE(Create(sim(), "ada").ok());
  for (int life = 0; life < 2; ++life) {
    EXPECT_THAT(Refusal(Create(sim(), "ada")),
                AllOf(HasSubstr("at most 2 jobs of 'ada' that have not ended"),
                      HasSubstr("found 2 and another one"), HasSubstr("cancel one")));
    // The quota is each user's own, and what was accepted stays.
    EXPECT_EQ(Create(sim(), "ada", "first")->name(), first);
    v1::CreateJobRequest request;
    *request.mutable_spec() = SmallSpec();
    request.set_validate_only(true);
    std::vector<config::Violation> violations;
    EXPECT_EQ(base::ReasonOf(sim().Create(request, violations, "ada").status()), "QUOTA_EXCEEDED");
    EXPECT_TRUE(sim().Create(request, violations, "bob").ok());
    Again();
  }
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Create(sim(), "").ok()) << "nobody has no quota";
  ASSERT_TRUE(sim().jobs.Cancel(first).ok());
  EXPECT_TRUE(Create(sim(), "ada").ok());
}

TEST_F(JobQuotasTest, PausedJobsCountAndGoOnUnlessTheQuotaWasLowered) {
  const std::string paused = Create(sim(), "ada")->name();
  ASSERT_TRUE(sim().jobs.Pause(paused).ok());
  ASSERT_TRUE(Create(sim(), "ada").ok());
  Refusal(Create(sim(), "ada"));
  sim().jobs.SetQuotas(QuotasOf("default: {jobs: 1}"));
  EXPECT_THAT(Refusal(Resume(paused)), HasSubstr("found 2, this one among them"));
  sim().jobs.SetQuotas(QuotasOf("default: {jobs: 2}"));
  EXPECT_TRUE(Resume(paused).ok());
}

TEST_F(JobQuotasTest, RetriedJobIsOneMore) {
  const std::string failed = Create(sim(), "ada")->name();
  for (int i = 0; i < 10; ++i) {
    for (FakeWorker* worker : sim().busy()) worker->Fail("DIVERGED", "the loss is not finite");
    sim().Tick();
  }
  ASSERT_EQ(sim().State(failed), v1::Job::STATE_FAILED);
  const std::string other = Create(sim(), "ada")->name();
  ASSERT_TRUE(Create(sim(), "ada").ok());
  EXPECT_THAT(Refusal(Retry(failed)), HasSubstr("found 2 and another one"));
  ASSERT_TRUE(sim().jobs.Cancel(other).ok());
  EXPECT_TRUE(Retry(failed).ok());
}

// -- checkpoints --

TEST_F(JobQuotasTest, CheckpointsCountWhoeverKnowsTheirJobs) {
  const std::string name = Create(sim(), "ada")->name();
  sim().jobs.SetQuotas(QuotasOf("default: {checkpoint_bytes: 1}"));
  sim().Run(name);
  EXPECT_EQ(sim().State(name), v1::Job::STATE_SUCCEEDED) << "a job in work goes on";
  const int64_t used = sim().checkpoints().BytesOf("ada");
  EXPECT_GT(used, 1);
  EXPECT_EQ(sim().checkpoints().BytesOf("bob"), 0);
  EXPECT_THAT(Refusal(Create(sim(), "ada")),
              AllOf(HasSubstr("checkpoint_bytes"), HasSubstr("delete some")));
  EXPECT_TRUE(Create(sim(), "bob").ok());
  Delete(name, /*checkpoints=*/false);
  Again("default: {checkpoint_bytes: 1}");
  EXPECT_EQ(sim().checkpoints().BytesOf("ada"), used);
  Refusal(Create(sim(), "ada"));
  std::vector<std::string> names;
  for (const auto& info : sim().checkpoints().List("")) names.push_back(info.name);
  ASSERT_TRUE(sim().checkpoints().Remove(names).ok());
  EXPECT_TRUE(Create(sim(), "ada").ok());
}

}  // namespace
}  // namespace espalier::test
