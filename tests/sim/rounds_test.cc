// Jobs of many rounds: all of them are kept and can be chosen from.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

v1::JobSpec LongSpec(int rounds, int evaluate_every) {
  v1::JobSpec spec = SmallSpec();
  spec.mutable_federation()->set_rounds(rounds);
  spec.mutable_data()->mutable_partition()->set_shards(1);
  spec.mutable_evaluation()->set_every_rounds(evaluate_every);
  return spec;
}

TEST(RoundsSimTest, TenThousandRoundsAreAllKept) {
  constexpr int kRounds = 10'000;
  constexpr size_t kInJob = 1000;
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(LongSpec(kRounds, 100));
  sim.Run(name);
  ASSERT_EQ(sim.State(name), v1::Job::STATE_SUCCEEDED);
  const auto* rounds = &sim.Find(name)->rounds();
  ASSERT_EQ(rounds->size(), static_cast<size_t>(kRounds));
  for (int i = 0; i < kRounds; ++i) {
    const v1::RoundSummary round = rounds->At(static_cast<size_t>(i));
    ASSERT_EQ(round.round(), i + 1);
    ASSERT_EQ(round.has_test_accuracy(), round.round() % 100 == 0);
  }
  // The job itself shows the newest.
  const v1::Job job = sim.Job(name);
  ASSERT_EQ(job.history_size(), static_cast<int>(kInJob));
  EXPECT_EQ(job.history(0).round(), kRounds - static_cast<int>(kInJob) + 1);
  EXPECT_EQ(job.history().rbegin()->round(), kRounds);
  // 300 points have the best round and all that were evaluated.
  const std::vector<size_t> chosen = rounds->Choose(rounds->size(), rounds->best(), 300);
  ASSERT_EQ(chosen.size(), 300U);
  EXPECT_EQ(rounds->At(*rounds->best()).round(), job.best_round());
  for (size_t evaluated = 99; evaluated < kRounds; evaluated += 100) {
    EXPECT_THAT(chosen, testing::Contains(evaluated));
  }
  EXPECT_THAT(chosen, testing::Contains(*rounds->best()));
}

TEST(RoundsSimTest, RoundsCanBeReadWhileTheJobRunsAndAfterItWasCancelled) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(LongSpec(1000, 1));
  sim.Settle();
  while (sim.Find(name)->rounds().size() < 3) {
    sim.busy().front()->Finish();
    sim.Settle();
  }
  ASSERT_TRUE(sim.jobs.Cancel(name).ok());
  sim.Settle();
  const auto* rounds = &sim.Find(name)->rounds();
  EXPECT_EQ(rounds->At(0).round(), 1);
  EXPECT_EQ(static_cast<int32_t>(rounds->size()), sim.Job(name).round());
}

TEST(RoundsSimTest, JobsThatDoNotExistHaveNoRounds) {
  Simulation sim;
  sim.AddWorkers(1);
  const std::string name = sim.Start(LongSpec(5, 1));
  EXPECT_EQ(sim.Find(name)->rounds().size(), 0U);
  const absl::Status unknown = sim.Found("jobs/other").status();
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(base::ReasonOf(unknown), "JOB_NOT_FOUND");
}

}  // namespace
}  // namespace espalier::test
