// What those see who look at rounds, and at what changes among jobs and workers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "tests/sim/simulation.h"

namespace espalier::test {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::Pair;
using testing::SizeIs;
using Progress = v1::ParticipantProgress;
using Kind = server::events::ChangeFeed::Change::Kind;

absl::StatusOr<v1::RoundProgress> Ask(Simulation& sim, const std::string& job, int round = 0) {
  v1::GetRoundProgressRequest request;
  request.set_job(job);
  request.set_round(round);
  return sim.jobs.ProgressOf(request);
}

std::vector<std::pair<std::string, Progress::State>> States(const v1::RoundProgress& progress) {
  std::vector<std::pair<std::string, Progress::State>> states;
  for (const Progress& one : progress.participants()) {
    states.emplace_back(one.participant(), one.state());
  }
  return states;
}

class ProgressSimTest : public testing::Test {
 protected:
  ProgressSimTest() {
    sim_.AddWorkers(2);
    name_ = sim_.Start(SmallSpec());
    sim_.Settle();
  }
  v1::RoundProgress Now() { return Ask(sim_, name_).value(); }

  Simulation sim_;
  std::string name_;
};

TEST_F(ProgressSimTest, TellsWhoWaitsWhoWorksAndWhoIsDone) {
  v1::RoundProgress progress = Now();
  EXPECT_EQ(progress.round(), 1);
  EXPECT_EQ(progress.phase(), "train");
  EXPECT_EQ(progress.needed(), 4);
  EXPECT_EQ(progress.outstanding(), 4);
  EXPECT_TRUE(progress.has_deadline());
  EXPECT_FALSE(progress.has_end_time());
  EXPECT_THAT(States(progress), ElementsAre(Pair("shard-0", Progress::STATE_LEASED),
                                            Pair("shard-1", Progress::STATE_LEASED),
                                            Pair("shard-2", Progress::STATE_WAITING),
                                            Pair("shard-3", Progress::STATE_WAITING)));
  sim_.busy().front()->Finish();
  sim_.Settle();
  progress = Now();
  EXPECT_EQ(progress.arrived(), 1);
  EXPECT_EQ(progress.outstanding(), 3);
  const Progress& done = *progress.participants().rbegin();
  EXPECT_EQ(done.state(), Progress::STATE_ACCEPTED) << "those that are done come last";
  EXPECT_THAT(done.worker(), HasSubstr("workers/"));
  EXPECT_TRUE(done.has_assign_time() && done.has_upload_time() && done.has_accept_time());
  EXPECT_EQ(done.attempts(), 1);
}

TEST_F(ProgressSimTest, TellsWhatWentWrongFirst) {
  sim_.Add("third");
  sim_.Settle();
  FakeWorker& lost = *sim_.busy().front();
  const std::string participant = lost.task().participant();
  lost.Vanish();
  sim_.Settle();
  const Progress first = Now().participants(0);
  EXPECT_EQ(first.participant(), participant);
  EXPECT_EQ(first.state(), Progress::STATE_EXPIRED);
  EXPECT_FALSE(first.reason().empty());
  FakeWorker& failing = *sim_.busy().front();
  failing.Fail("OUT_OF_DISK", std::string(5000, 'x'));
  sim_.Settle();
  const v1::RoundProgress progress = Now();
  for (const Progress& one : progress.participants()) {
    EXPECT_LE(one.message().size(), 300);
    if (one.reason() == "OUT_OF_DISK") {
      EXPECT_EQ(one.worker(), "workers/" + failing.id());
    }
  }
  EXPECT_THAT(States(progress), Contains(Pair(testing::_, Progress::STATE_REJECTED)));
}

TEST_F(ProgressSimTest, RememberRoundsThatHaveEnded) {
  sim_.Run(name_);
  const v1::RoundProgress last = Now();
  EXPECT_EQ(last.round(), 3) << "the newest, where none is in work";
  EXPECT_EQ(last.oldest_round(), 1);
  EXPECT_EQ(last.newest_round(), 3);
  EXPECT_TRUE(last.has_end_time());
  EXPECT_FALSE(last.has_deadline());
  const v1::RoundProgress first = Ask(sim_, name_, 1).value();
  EXPECT_EQ(first.round(), 1);
  std::vector<std::string> phases;
  for (const Progress& one : first.participants()) {
    EXPECT_EQ(one.state(), Progress::STATE_ACCEPTED);
    if (phases.empty() || phases.back() != one.phase()) phases.push_back(one.phase());
  }
  EXPECT_EQ(phases.front(), "train");
  EXPECT_EQ(base::ReasonOf(Ask(sim_, name_, 4).status()), "ROUND_NOT_REMEMBERED");
  EXPECT_EQ(base::ReasonOf(Ask(sim_, "jobs/no").status()), "JOB_NOT_FOUND");
}

TEST_F(ProgressSimTest, ARoundThatWasCancelledHasItsParticipants) {
  sim_.busy().front()->Finish();
  sim_.Settle();
  ASSERT_TRUE(sim_.jobs.Cancel(name_).ok());
  sim_.Settle();
  const v1::RoundProgress progress = Now();
  EXPECT_TRUE(progress.has_end_time());
  EXPECT_THAT(progress.participants(), SizeIs(4));
  EXPECT_THAT(States(progress), Contains(Pair(testing::_, Progress::STATE_ACCEPTED)));
}

// What a reader of a feed who knows nothing is told.
std::vector<std::string> All(const server::events::ChangeFeed& feed) {
  std::vector<std::string> words;
  const auto changes = feed.After(0, feed.last(), 10'000);
  for (const auto& change : *changes) {
    if (change.kind == Kind::kChanged) words.push_back(change.name);
    if (change.kind == Kind::kGone) words.push_back("-" + change.name);
    if (change.kind == Kind::kEvent) {
      words.push_back(change.name + "#" + std::to_string(change.event->event().sequence()));
    }
  }
  return words;
}

TEST(FeedsSimTest, TellsOfEveryEventOfEveryJobOnce) {
  Disk disk;
  Simulation sim(disk);
  sim.AddWorkers(2);
  const std::string a = sim.Start(SmallSpec());
  const std::string b = sim.Start(SmallSpec());
  sim.Run(a);
  sim.Run(b);
  sim.Tick();
  const std::vector<std::string> told = All(sim.jobs.feeds().jobs());
  for (const std::string& name : {a, b}) {
    const size_t events = sim.Events(name).size();
    ASSERT_GT(events, 3);
    for (size_t i = 1; i <= events; ++i) {
      const std::string event = name + "#" + std::to_string(i);
      EXPECT_EQ(std::ranges::count(told, event), 1) << event;
    }
    EXPECT_EQ(std::ranges::count(told, name), 1);
  }
}

TEST(FeedsSimTest, AJobThatHasEndedIsTheLastThatIsToldOfIt) {
  Disk disk;
  Simulation sim(disk);
  sim.AddWorkers(2);
  const std::string name = sim.Start(SmallSpec());
  sim.Run(name);
  sim.Tick();
  EXPECT_EQ(All(sim.jobs.feeds().jobs()).back(), name);
  const uint64_t then = sim.jobs.feeds().jobs().last();
  sim.Pass(absl::Seconds(30));
  EXPECT_EQ(sim.jobs.feeds().jobs().last(), then) << "nothing happens, so nothing is told";
}

TEST(FeedsSimTest, TellsWhyAJobWaitsAndWhenItIsDeleted) {
  Disk disk;
  Simulation sim(disk);
  const std::string name = sim.Start(SmallSpec());
  sim.Tick();
  const uint64_t before = sim.jobs.feeds().jobs().last();
  sim.AddWorkers(2);
  sim.Tick();
  sim.Run(name);
  sim.Tick();
  EXPECT_GT(sim.jobs.feeds().jobs().last(), before);
  v1::DeleteJobRequest request;
  request.set_name(name);
  absl::Status deleted = absl::UnknownError("not answered");
  sim.jobs.Delete(request, [&deleted](const auto& answer) { deleted = answer.status(); });
  sim.Settle();
  ASSERT_TRUE(deleted.ok()) << deleted;
  EXPECT_EQ(All(sim.jobs.feeds().jobs()).back(), "-" + name);
}

TEST(FeedsSimTest, ACoordinatorThatGoesOnKnowsAllItsJobs) {
  Disk disk;
  std::string ended;
  std::string running;
  {
    Simulation sim(disk);
    sim.AddWorkers(2);
    ended = sim.Start(SmallSpec());
    sim.Run(ended);
    sim.Tick();
    running = sim.Start(SmallSpec());
    sim.Settle();
  }
  Simulation sim(disk, 2);
  sim.Tick();
  const std::vector<std::string> told = All(sim.jobs.feeds().jobs());
  EXPECT_THAT(told, Contains(ended));
  EXPECT_THAT(told, Contains(running));
  EXPECT_THAT(told, Not(Contains(HasSubstr("#"))));
}

TEST(FeedsSimTest, TellsOfWorkersThatComeWorkAndGo) {
  Simulation sim;
  sim.AddWorkers(2);
  sim.Tick();
  const auto& feed = sim.jobs.feeds().workers();
  EXPECT_THAT(All(feed), SizeIs(2));
  uint64_t then = feed.last();
  sim.Pass(absl::Seconds(9));
  EXPECT_EQ(feed.last(), then) << "heartbeats alone are told every ten seconds";
  sim.Pass(absl::Seconds(3));
  EXPECT_GT(feed.last(), then);
  then = feed.last();
  sim.Start(SmallSpec());
  sim.Settle();
  sim.Tick();
  EXPECT_GT(feed.last(), then) << "a task";
  then = feed.last();
  sim.workers().front()->Vanish();
  sim.Settle();
  sim.Tick();
  EXPECT_GT(feed.last(), then) << "it is gone";
}

}  // namespace
}  // namespace espalier::test
