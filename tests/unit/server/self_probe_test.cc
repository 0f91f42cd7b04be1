#include "server/self_probe.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "common/base/status.h"

namespace espalier::server {
namespace {

using Verdict = ProbeJudge::Verdict;

constexpr SelfProbeOptions kOptions{
    .every = absl::Seconds(10), .limit = absl::Seconds(10), .failures = 3};

// Probes in their rhythm, each of which takes some time.
class Rhythm {
 public:
  Verdict Probe(bool heard, absl::Duration takes = absl::Milliseconds(2)) {
    now_ += kOptions.every;
    const absl::Duration began = now_;
    now_ += takes;
    return judge_.Judge(heard, began, now_);
  }
  void Pause(absl::Duration time) { now_ += time; }

 private:
  ProbeJudge judge_{kOptions};
  absl::Duration now_;
};

TEST(ProbeJudgeTest, ThreeFailuresInARowAreTheEnd) {
  Rhythm rhythm;
  EXPECT_EQ(rhythm.Probe(true), Verdict::kHeard);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
  EXPECT_EQ(rhythm.Probe(false, absl::Seconds(10)), Verdict::kFailed);
  EXPECT_EQ(rhythm.Probe(true), Verdict::kHeard);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
  EXPECT_EQ(rhythm.Probe(false, absl::Seconds(10)), Verdict::kFailed);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kDead);
}

TEST(ProbeJudgeTest, AProbeThatNeverSucceededEndsNothing) {
  Rhythm rhythm;
  for (int i = 0; i < 100; ++i) EXPECT_EQ(rhythm.Probe(false), Verdict::kNeverHeard);
  EXPECT_EQ(rhythm.Probe(true), Verdict::kHeard);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
}

TEST(ProbeJudgeTest, AProcessThatIsStoppedAgainAndAgainGoesOn) {
  Rhythm rhythm;
  EXPECT_EQ(rhythm.Probe(true), Verdict::kHeard);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(rhythm.Probe(false, absl::Seconds(60)), Verdict::kPaused);
  }
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
}

TEST(ProbeJudgeTest, FailuresBeforeAPauseDoNotCountAfterIt) {
  Rhythm rhythm;
  EXPECT_EQ(rhythm.Probe(true), Verdict::kHeard);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
  rhythm.Pause(absl::Minutes(1));
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kFailed);
  EXPECT_EQ(rhythm.Probe(false), Verdict::kDead);
}

TEST(SelfProbeTest, TellsTheErrorOfTheLastProbe) {
  metrics::Metrics metrics(metrics::Role::kCoordinator);
  const base::RealClock clock;
  std::atomic<int> probes{0};
  std::promise<absl::Status> dead;
  std::atomic<bool> told{false};
  const SelfProbe probe(
      {.every = absl::Milliseconds(1), .limit = absl::Seconds(10), .failures = 3},
      [&]() -> absl::Status {
        if (++probes == 1) return absl::OkStatus();
        return base::MakeError(absl::StatusCode::kUnavailable, "NOT_HEARD", "nobody");
      },
      [&](const absl::Status& last) {
        if (!told.exchange(true)) dead.set_value(last);
      },
      clock, metrics);
  EXPECT_EQ(base::ReasonOf(dead.get_future().get()), "NOT_HEARD");
  EXPECT_GE(probes, 4);
}

TEST(SelfProbeTest, EndsWithoutWaitingForItsNextProbe) {
  metrics::Metrics metrics(metrics::Role::kCoordinator);
  const base::RealClock clock;
  int probes = 0;
  {
    const SelfProbe probe(
        {.every = absl::Hours(1)},
        [&] {
          ++probes;
          return absl::OkStatus();
        },
        [](const absl::Status&) {}, clock, metrics);
  }
  EXPECT_EQ(probes, 0);
}

}  // namespace
}  // namespace espalier::server
