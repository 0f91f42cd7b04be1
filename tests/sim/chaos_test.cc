// Random histories: whatever workers do, a job whose workers come back succeeds with the model of
// an undisturbed run.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "common/base/rng.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

constexpr int kWorkers = 4;
constexpr int kDisturbances = 60;

v1::JobSpec PatientSpec(uint64_t seed) {
  v1::JobSpec spec = SmallSpec();
  spec.set_seed(seed);
  spec.mutable_data()->mutable_partition()->set_shards(3 + static_cast<int>(seed % 3));
  v1::Federation& federation = *spec.mutable_federation();
  federation.set_rounds(4);
  federation.set_cohort_size(seed % 2 == 0 ? 3 : 0);
  federation.mutable_round_deadline()->set_seconds(30);
  federation.set_on_quorum_loss(v1::Federation::QUORUM_POLICY_EXTEND);
  federation.set_max_extensions(1000);
  federation.set_max_retries(100);
  return spec;
}

// A worker's upload, perhaps late: what was computed for a lease that may have ended since.
struct Pending {
  FakeWorker* worker;
  Update update;
};

class Chaos {
 public:
  explicit Chaos(uint64_t seed) : rng_(base::StreamKey(seed, "chaos")), spec_(PatientSpec(seed)) {
    sim_.AddWorkers(kWorkers);
    name_ = sim_.Start(spec_);
  }

  void Play() {
    for (int i = 0; i < kDisturbances; ++i) {
      Disturb(*sim_.workers()[Draw(kWorkers)]);
      sim_.Settle();
    }
    for (FakeWorker* worker : sim_.workers()) {
      if (!worker->connected()) {
        ASSERT_TRUE(worker->Connect().ok());
      }
    }
    for (const Pending& late : late_) Submit(late);
    // Tasks that were lost again and again wait a while before they are tried once more.
    for (int i = 0; i < 1000 && sim_.State(name_) == v1::Job::STATE_RUNNING; ++i) {
      sim_.Tick();
      sim_.Run(name_);
    }
  }

  Simulation& sim() { return sim_; }
  const std::string& name() const { return name_; }
  const v1::JobSpec& spec() const { return spec_; }
  // How often an upload of each participant was accepted in each round's training.
  const std::map<std::pair<int, std::string>, int>& accepted() const { return accepted_; }

 private:
  uint64_t Draw(uint64_t bound) { return rng_.Below(bound); }

  void Disturb(FakeWorker& worker) {
    if (!worker.connected()) {
      if (Draw(2) == 0) {
        EXPECT_TRUE(worker.Connect().ok());
      }
      return;
    }
    switch (Draw(10)) {
      case 0:
        if (worker.busy()) late_.push_back({&worker, worker.Compute()});
        worker.Vanish();
        return;
      case 1:
        sim_.Pass(absl::Seconds(1 + Draw(12)), {worker.id()});
        return;
      case 2:
        sim_.Pass(absl::Seconds(1 + Draw(40)));
        return;
      case 3:
        // A reported failure by more than one worker could end the job, as it should.
        if (worker.busy() && worker.id() == "w0" && OthersConnected()) {
          worker.Fail("OUT_OF_MEMORY", "too small");
        }
        return;
      case 4:
        if (!late_.empty()) Submit(late_[Draw(late_.size())]);
        return;
      default:
        if (worker.busy()) Submit({&worker, worker.Compute()});
    }
  }

  bool OthersConnected() {
    for (const FakeWorker* worker : sim_.workers()) {
      if (worker->id() != "w0" && worker->connected()) return true;
    }
    return false;
  }

  void Submit(const Pending& pending) {
    const bool current = pending.worker->busy() && pending.worker->task().epoch().counter() ==
                                                       pending.update.header.epoch().counter();
    const v1::Task task = current ? pending.worker->task() : v1::Task();
    const auto answer = pending.worker->Send(pending.update);
    sim_.Settle();
    ASSERT_TRUE(answer->answered);
    EXPECT_EQ(answer->status.ok(), current) << answer->status;
    if (task.has_train()) ++accepted_[{task.round(), task.participant()}];
  }

  base::Rng rng_;
  v1::JobSpec spec_;
  Simulation sim_;
  std::string name_;
  std::vector<Pending> late_;
  std::map<std::pair<int, std::string>, int> accepted_;
};

void CheckEvents(const std::vector<v1::JobEvent>& events) {
  int round = 0;
  int started = 0;
  std::vector<v1::Job::State> states;
  for (size_t i = 0; i < events.size(); ++i) {
    const v1::JobEvent& event = events[i];
    EXPECT_EQ(event.sequence(), static_cast<int64_t>(i) + 1);
    if (event.has_state_changed()) states.push_back(event.state_changed().state());
    if (event.has_round_started()) {
      EXPECT_EQ(event.round_started().round(), ++started);
    }
    if (event.has_round_committed()) {
      EXPECT_EQ(event.round_committed().summary().round(), ++round);
      EXPECT_EQ(started, round);
    }
  }
  EXPECT_EQ(states, (std::vector<v1::Job::State>{v1::Job::STATE_PENDING, v1::Job::STATE_RUNNING,
                                                 v1::Job::STATE_SUCCEEDED}));
}

class ChaosSimTest : public testing::TestWithParam<int> {};

// Each case plays a range of seeds.
TEST_P(ChaosSimTest, JobSucceedsWithTheModelOfAnUndisturbedRun) {
  constexpr int kSeedsPerCase = 25;
  for (int i = 0; i < kSeedsPerCase; ++i) {
    const uint64_t seed = static_cast<uint64_t>(GetParam() * kSeedsPerCase + i) + 1;
    SCOPED_TRACE("seed " + std::to_string(seed));
    Chaos chaos(seed);
    chaos.Play();
    const v1::Job job = chaos.sim().Job(chaos.name());
    ASSERT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
    CheckEvents(chaos.sim().Events(chaos.name()));
    for (const auto& [participant, count] : chaos.accepted()) {
      EXPECT_EQ(count, 1) << participant.second << " in round " << participant.first;
    }
    Simulation calm;
    calm.AddWorkers(1);
    const std::string name = calm.Start(chaos.spec());
    calm.Run(name);
    ASSERT_EQ(job.model_hash(), calm.Job(name).model_hash());
    if (HasFailure()) return;
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, ChaosSimTest, testing::Range(0, 8));

}  // namespace
}  // namespace espalier::test
