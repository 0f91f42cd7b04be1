#include "client/cli/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace espalier::cli {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

v1::Job SomeJob() {
  v1::Job job;
  job.set_name("jobs/a");
  job.mutable_spec()->mutable_federation()->set_rounds(4);
  job.mutable_spec()->mutable_evaluation()->set_main_metric("accuracy");
  return job;
}

v1::JobEvent Round(int round) {
  v1::JobEvent event;
  v1::RoundSummary& summary = *event.mutable_round_committed()->mutable_summary();
  summary.set_round(round);
  summary.set_train_loss(0.5);
  summary.set_density(0.05);
  summary.set_bytes_sent(60);
  summary.set_bytes_received(40);
  summary.set_dense_bytes(1000);
  summary.mutable_duration()->set_seconds(2);
  return event;
}

TEST(ProgressTest, PipeGetsOnePlainLinePerRound) {
  std::ostringstream err;
  Progress progress(err, {}, SomeJob());
  v1::JobEvent first = Round(1);
  first.mutable_round_committed()->mutable_summary()->set_main_metric(0.9);
  progress.OnEvent(first);
  progress.OnEvent(Round(4));
  progress.Finish();
  EXPECT_EQ(
      err.str(),
      "jobs/a  round 1 of 4  loss 0.5000  accuracy 90.0 %  density 0.05  bytes saved 90.0 %  "
      "left 6.0 s\n"
      "jobs/a  round 4 of 4  loss 0.5000  accuracy 90.0 %  density 0.05  bytes saved 90.0 %\n");
}

TEST(ProgressTest, PruningHasNeitherLossNorSavings) {
  std::ostringstream err;
  Progress progress(err, {}, SomeJob());
  v1::JobEvent event;
  v1::RoundSummary& summary = *event.mutable_round_committed()->mutable_summary();
  summary.set_round(4);
  summary.set_density(0.5);
  summary.set_dense_bytes(1000);
  summary.set_main_metric(0.25);
  progress.OnEvent(event);
  EXPECT_EQ(err.str(), "jobs/a  round 4 of 4  accuracy 25.0 %  density 0.5\n");
}

TEST(ProgressTest, DenseTrainingSavesNothing) {
  std::ostringstream err;
  Progress progress(err, {}, SomeJob());
  v1::JobEvent event = Round(4);
  event.mutable_round_committed()->mutable_summary()->set_density(1);
  progress.OnEvent(event);
  EXPECT_EQ(err.str(), "jobs/a  round 4 of 4  loss 0.5000  density 1\n");
}

TEST(ProgressTest, TheEndStandsBelowTheLastRound) {
  std::ostringstream err;
  Progress progress(err, {.is_tty = true, .color = false, .columns = 80}, SomeJob());
  progress.OnEvent(Round(4));
  v1::JobEvent event;
  event.mutable_state_changed()->set_state(v1::Job::STATE_SUCCEEDED);
  progress.OnEvent(event);
  EXPECT_THAT(err.str(), EndsWith("bytes saved 90.0 %\njobs/a  SUCCEEDED\n"));
}

TEST(ProgressTest, TerminalGetsOneLiveLineThatFits) {
  std::ostringstream err;
  Progress progress(err, {.is_tty = true, .color = false, .columns = 30}, SomeJob());
  progress.OnEvent(Round(1));
  EXPECT_EQ(err.str(), "\r\x1b[Kjobs/a  round 1 of 4  loss 0…");
  progress.Finish();
  EXPECT_THAT(err.str(), EndsWith("…\n"));
}

TEST(ProgressTest, TroubleIsToldAboveTheLiveLine) {
  std::ostringstream err;
  Progress progress(err, {.is_tty = true, .color = false, .columns = 20}, SomeJob());
  progress.OnEvent(Round(1));
  v1::JobEvent event;
  event.mutable_quorum_missed()->set_round(2);
  event.mutable_quorum_missed()->set_arrived(1);
  event.mutable_quorum_missed()->set_needed(3);
  event.mutable_quorum_missed()->set_decision("extend");
  progress.OnEvent(event);
  EXPECT_THAT(err.str(),
              HasSubstr("\r\x1b[Jjobs/a  round 2: 1 of 3 needed updates arrived in time: "
                        "extend\njobs/a  round 1 of…"));
}

TEST(ProgressTest, StepsBeforeTheFirstRoundAreTold) {
  std::ostringstream err;
  Progress progress(err, {}, SomeJob());
  v1::JobEvent event;
  v1::PreludeStep& step = *event.mutable_prelude_step();
  step.set_phase("select_loss");
  step.set_candidate(2);
  step.set_candidates(3);
  step.set_loss(1.25);
  step.set_bytes_sent(2048);
  progress.OnEvent(event);
  EXPECT_EQ(err.str(),
            "jobs/a  before round 1: select_loss  candidate 2 of 3  loss 1.2500  2.0 kB\n");
}

TEST(ProgressTest, TotalsSumOverRounds) {
  std::ostringstream err;
  Progress progress(err, {}, SomeJob());
  progress.OnEvent(Round(1));
  progress.OnEvent(Round(2));
  EXPECT_EQ(progress.totals().bytes, 200);
  EXPECT_EQ(progress.totals().dense_bytes, 2000);
  EXPECT_DOUBLE_EQ(progress.totals().saved(), 0.9);
}

TEST(ProgressTest, NothingIsSavedBeforeTheFirstRound) { EXPECT_EQ(RunTotals().saved(), 0); }

}  // namespace
}  // namespace espalier::cli
