// Coordinators that are killed: the next one goes on with every job, with the same bits and the
// same events, and nothing that was told to anybody is taken back. Jobs that are paused meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "tests/sim/histories.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

// Lives of coordinators on one disk. Everything that a life told is remembered.
class Lives {
 public:
  explicit Lives(uint64_t seed, bool pauses = false)
      : pauses_(pauses), rng_(base::StreamKey(seed, "lives")) {
    Begin();
  }

  Simulation& now() { return *life_; }
  int count() const { return lives_; }

  std::string Start(const v1::JobSpec& spec) { return name_ = life_->Start(spec); }

  // Kills the coordinator, and with it the connections of all workers.
  void Kill() {
    See();
    life_.reset();
    Begin();
    // What was shown is still there.
    if (name_.empty()) return;
    const auto events = life_->Events(name_);
    ExpectToBeginWith(seen_, events);
  }

  // Works on, and is killed after a while that is drawn, until the job has ended.
  void Play(int most_steps) {
    for (;;) {
      const uint64_t steps = rng_.Below(static_cast<uint64_t>(most_steps));
      for (uint64_t i = 0; i < steps; ++i) Step();
      See();
      if (life_->Find(name_)->events()->closed()) return;
      ASSERT_LT(lives_, 3000) << "it does not end";
      Kill();
      if (testing::Test::HasFatalFailure()) return;
    }
  }

  int pauses() const { return paused_; }

  // Files of what is too long for the store.
  int64_t Parts() const {
    const std::filesystem::directory_iterator files(disk_.folder + "/parts");
    return std::distance(begin(files), end(files));
  }

  // How often an update of each participant was acknowledged in each round's training.
  const std::map<std::string, int>& acknowledged() const { return acknowledged_; }

 private:
  struct Sent {
    std::string what;
    std::shared_ptr<Answer> answer;
  };

  void Begin() {
    ++lives_;
    life_ = std::make_unique<Simulation>(disk_, static_cast<uint64_t>(lives_));
    life_->AddWorkers(kWorkers);
    life_->jobs.Tick();
    sent_.clear();
  }

  // A moment of a life: somebody hands a result in, or something that was posted runs.
  void Step() {
    const auto busy = life_->busy();
    if (!busy.empty() && rng_.Below(3) == 0) {
      FakeWorker& worker = *busy[rng_.Below(busy.size())];
      const v1::Task task = worker.task();
      const std::string what = task.has_train() ? task.run() + "/" + std::to_string(task.round()) +
                                                      "/" + task.participant()
                                                : "";
      sent_.push_back({what, worker.Finish()});
    } else if (pauses_ && rng_.Below(40) == 0) {
      PauseOrResume();
    } else if (rng_.Below(20) == 0) {
      life_->jobs.Tick();
    } else {
      life_->RunSome(1 + static_cast<int>(rng_.Below(5)));
    }
    for (Sent& sent : sent_) {
      if (!sent.answer->answered) continue;
      const absl::Status& status = sent.answer->status;
      // A pause may come before the result counts.
      EXPECT_TRUE(status.ok() || (pauses_ && base::ReasonOf(status) == "ROUND_CLOSED")) << status;
      if (status.ok() && !sent.what.empty()) ++acknowledged_[sent.what];
    }
    std::erase_if(sent_, [](const Sent& sent) { return sent.answer->answered; });
  }

  void PauseOrResume() {
    if (life_->State(name_) == v1::Job::STATE_PAUSED) {
      life_->jobs.Resume(name_, [](const absl::StatusOr<v1::Job>& job) {
        // Another such call may have been first.
        const std::string reason = base::ReasonOf(job.status());
        EXPECT_TRUE(job.ok() || reason == "JOB_CHANGED" || reason == "JOB_NOT_PAUSED")
            << job.status();
      });
    } else if (life_->jobs.Pause(name_).ok()) {
      ++paused_;
    }
  }

  void See() {
    if (!name_.empty()) seen_ = life_->Events(name_);
  }

  const bool pauses_;
  int paused_ = 0;
  base::Rng rng_;
  Disk disk_;
  std::unique_ptr<Simulation> life_;
  int lives_ = 0;
  std::string name_;
  std::vector<v1::JobEvent> seen_;
  std::vector<Sent> sent_;
  std::map<std::string, int> acknowledged_;
};

class DurableSimTest : public testing::TestWithParam<std::string> {};

// Kills coordinators, and where `pauses`, pauses and resumes the job.
void Disturb(const std::string& kind, bool pauses) {
  Simulation calm;
  calm.AddWorkers(kWorkers);
  const std::string undisturbed = calm.Start(SpecOf(kind));
  calm.Run(undisturbed);
  const v1::Job expected = calm.Job(undisturbed);
  ASSERT_EQ(expected.state(), v1::Job::STATE_SUCCEEDED) << expected.failure_message();
  const uint64_t first = FromEnvironment("ESPALIER_FIRST_SEED", 1);
  const uint64_t seeds = FromEnvironment("ESPALIER_SEEDS", 12);
  int all_lives = 0;
  int all_pauses = 0;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Lives lives(seed, pauses);
    const std::string name = lives.Start(SpecOf(kind));
    // From lives in which hardly anything happens to some in which most of the job is done.
    ASSERT_NO_FATAL_FAILURE(lives.Play(seed % 2 == 0 ? 12 : 60));
    const v1::Job job = lives.now().Job(name);
    ASSERT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
    all_lives += lives.count();
    all_pauses += lives.pauses();
    EXPECT_EQ(job.model_hash(), expected.model_hash());
    ExpectHistory(lives.now().Events(name), calm.Events(undisturbed));
    for (const auto& [what, count] : lives.acknowledged()) EXPECT_EQ(count, 1) << what;
    lives.now().Settle();
    EXPECT_EQ(lives.Parts(), 0) << "files that nothing names";
    EXPECT_EQ(lives.now().Find(name)->rounds().size(), calm.Find(undisturbed)->rounds().size());
    if (testing::Test::HasFailure()) return;
  }
  std::cout << kind << ": " << seeds << " seeds, " << all_lives << " coordinators, " << all_pauses
            << " pauses" << std::endl;
  // One seed may be quiet.
  constexpr uint64_t kMany = 12;
  if (seeds < kMany) return;
  EXPECT_GT(all_lives, static_cast<int>(3 * seeds));
  EXPECT_GE(all_pauses, pauses ? static_cast<int>(seeds / 2) : 0);
}

TEST_P(DurableSimTest, JobGoesOnWithTheSameBitsAndEventsWheneverTheCoordinatorIsKilled) {
  Disturb(GetParam(), false);
}

TEST_P(DurableSimTest, JobGoesOnWithTheSameBitsAndEventsWheneverItIsPaused) {
  Disturb(GetParam(), true);
}

INSTANTIATE_TEST_SUITE_P(Kinds, DurableSimTest, testing::ValuesIn(KindsOfJobs()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace espalier::test
