#include "client/cli/twin_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace espalier::cli {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr Terminal kTerminal = {.is_tty = true, .color = false, .columns = 80, .rows = 24};

v1::RoundSummary Round(int round, int64_t weights) {
  v1::RoundSummary summary;
  summary.set_round(round);
  summary.set_train_loss(0.5);
  summary.set_test_accuracy(0.9);
  summary.set_main_metric(0.9);
  summary.set_active_weights(weights);
  summary.set_density(static_cast<double>(weights) / 1000);
  summary.set_bytes_sent(4 * weights);
  summary.set_bytes_received(4 * weights);
  summary.set_dense_bytes(8000);
  summary.mutable_duration()->set_seconds(2);
  return summary;
}

v1::Job Ended(const v1::RoundSummary& last) {
  v1::Job job;
  job.set_best_metric(0.95);
  job.mutable_spec()->mutable_training()->mutable_optimizer()->set_momentum(0.9);
  *job.add_history() = last;
  return job;
}

TEST(TwinViewTest, PipeGetsALineWhenBothHaveTheRound) {
  std::ostringstream out;
  TwinView view(out, {}, {"sparse", "dense"}, 20);
  view.Start();
  out.str("");
  view.OnRound(0, Round(1, 100));
  view.OnRound(0, Round(2, 100));
  EXPECT_EQ(out.str(), "");
  view.OnRound(1, Round(1, 1000));
  view.OnRound(1, Round(2, 1000));
  EXPECT_EQ(out.str(), "      1      0.5000      90.0 %      0.5000      90.0 %\n");
}

TEST(TwinViewTest, TerminalShowsBothJobsSideBySide) {
  std::ostringstream out;
  TwinView view(out, kTerminal, {"sparse", "dense"}, 20);
  view.Start();
  EXPECT_THAT(out.str(), ContainsRegex("round +0 of 20 +0 of 20"));
  view.OnRound(0, Round(1, 100));
  view.OnRound(1, Round(1, 1000));
  out.str("");
  view.OnRound(0, Round(2, 100));
  EXPECT_THAT(
      out.str(),
      AllOf(ContainsRegex("round +2 of 20 +1 of 20"), ContainsRegex("loss +0.5000 +0.5000"),
            ContainsRegex("test accuracy +90.0 % +90.0 %"),
            ContainsRegex("weights of the layers +100 +1000"), ContainsRegex("density +0.1 +1"),
            ContainsRegex("bytes on the wire, so far +1.6 kB +8.0 kB")));
  EXPECT_THAT(out.str(), AllOf(ContainsRegex("saved against dense +90.0 % +0.0 %"),
                               ContainsRegex("time left +36 s +38 s")));
}

TEST(TwinViewTest, FinalTableTakesThePlaceOfTheLiveBlock) {
  std::ostringstream out;
  TwinView view(out, kTerminal, {"sparse", "dense"}, 1);
  view.Start();
  view.OnRound(0, Round(1, 100));
  view.OnRound(1, Round(1, 1000));
  EXPECT_THAT(out.str(), EndsWith("time left                         done        done"));
  out.str("");
  view.Compare({Ended(Round(1, 100)), Ended(Round(1, 1000))});
  EXPECT_THAT(
      out.str(),
      HasSubstr("\x1b[9A\r\x1b[J  after 1 rounds                  sparse       dense    less"));
  EXPECT_THAT(out.str(), HasSubstr("weights' memory, a worker       2.0 kB      8.0 kB    4.0×\n"));
}

TEST(TwinViewTest, SmallTerminalGetsPlainLines) {
  for (const Terminal& terminal : {Terminal{.is_tty = true, .columns = 50, .rows = 24},
                                   Terminal{.is_tty = true, .columns = 80, .rows = 8}}) {
    std::ostringstream out;
    TwinView view(out, terminal, {"sparse", "dense"}, 20);
    view.Start();
    view.OnRound(0, Round(1, 100));
    view.OnRound(1, Round(1, 1000));
    EXPECT_THAT(out.str(), Not(HasSubstr("\x1b")));
  }
}

TEST(TwinViewTest, TroubleStaysAboveTheBlock) {
  std::ostringstream out;
  TwinView view(out, kTerminal, {"sparse", "dense"}, 20);
  view.Start();
  out.str("");
  view.Note(1, "round 3: lost");
  EXPECT_THAT(out.str(), HasSubstr("\x1b[9A\r\x1b[J  dense: round 3: lost\n  training"));
}

TEST(WeightMemoryTest, CountsValuesOptimizerAndStructure) {
  v1::JobSpec spec;
  v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
  EXPECT_EQ(WeightMemory(spec, Round(1, 1000)), 4 * 1000);
  EXPECT_EQ(WeightMemory(spec, Round(1, 100)), (4 + 12) * 100);
  optimizer.set_momentum(0.9);
  EXPECT_EQ(WeightMemory(spec, Round(1, 100)), (8 + 12) * 100);
  optimizer.set_kind(v1::Optimizer::KIND_ADAM);
  EXPECT_EQ(WeightMemory(spec, Round(1, 100)), (12 + 12) * 100);
}

}  // namespace
}  // namespace espalier::cli
