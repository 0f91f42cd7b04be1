// Coordinators that are killed: the next one goes on with every job, with the same bits and the
// same events, and nothing that was told to anybody is taken back. Jobs that are paused meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
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
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

constexpr int kWorkers = 3;

// A long run: ESPALIER_SEEDS of each kind of job, from ESPALIER_FIRST_SEED on.
uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

v1::JobSpec SpecOf(const std::string& kind) {
  v1::JobSpec spec = SmallSpec();
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  if (kind == "large") return LargeSpec();
  if (kind == "cohort") spec.mutable_federation()->set_cohort_size(2);
  if (kind == "evaluated") {
    spec.mutable_evaluation()->set_every_rounds(1);
    spec.mutable_evaluation()->set_central(true);
  }
  if (kind == "momentum") {
    spec.mutable_aggregation()->set_server_optimizer(v1::Aggregation::SERVER_OPTIMIZER_MOMENTUM);
  }
  if (kind == "corrections") spec.mutable_training()->set_control_variates(true);
  if (kind == "local") {
    spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
    spec.mutable_data()->mutable_partition()->set_shards(0);
    spec.mutable_federation()->set_min_workers(kWorkers);
  }
  if (kind == "static") spec.mutable_method()->set_name(kind);
  if (kind == "imp") {
    spec.mutable_method()->set_name("imp");
    parameters.clear();
    parameters["levels"].set_int_value(2);
  }
  return spec;
}

// What must be the same however often the coordinator was killed, or the job paused.
std::vector<std::string> WithoutTimesAndBytes(const std::vector<v1::JobEvent>& events) {
  std::vector<std::string> texts;
  for (v1::JobEvent event : events) {
    event.clear_time();
    event.clear_sequence();
    const v1::Job::State state = event.state_changed().state();
    if (state == v1::Job::STATE_PAUSED || state == v1::Job::STATE_RUNNING ||
        state == v1::Job::STATE_PENDING) {
      continue;
    }
    if (event.has_round_committed()) {
      v1::RoundSummary& summary = *event.mutable_round_committed()->mutable_summary();
      summary.clear_duration();
      summary.clear_bytes_sent();
      summary.clear_bytes_received();
      summary.clear_dense_bytes();
    }
    if (event.has_prelude_step()) {
      event.mutable_prelude_step()->clear_duration();
      event.mutable_prelude_step()->clear_bytes_sent();
      event.mutable_prelude_step()->clear_bytes_received();
    }
    texts.push_back(event.ShortDebugString());
  }
  return texts;
}

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
    ASSERT_GE(events.size(), seen_.size());
    for (size_t i = 0; i < seen_.size(); ++i) {
      ASSERT_EQ(events[i].SerializeAsString(), seen_[i].SerializeAsString());
    }
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
    const auto events = WithoutTimesAndBytes(lives.now().Events(name));
    const auto calm_events = WithoutTimesAndBytes(calm.Events(undisturbed));
    ASSERT_EQ(events.size(), calm_events.size());
    for (size_t i = 0; i < events.size(); ++i) ASSERT_EQ(events[i], calm_events[i]);
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

INSTANTIATE_TEST_SUITE_P(Kinds, DurableSimTest,
                         testing::Values("set", "large", "cohort", "evaluated", "momentum",
                                         "corrections", "local", "static", "imp"),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace espalier::test
