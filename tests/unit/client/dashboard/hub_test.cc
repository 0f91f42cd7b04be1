#include "client/dashboard/streams/hub.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/dashboard/http/worker_pool.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "tests/unit/client/dashboard/fake_watch.h"

namespace espalier::dashboard {
namespace {

class HubTest : public ::testing::Test {
 protected:
  Feeding Jobs() {
    return {watch_.watch(),
            [this](std::function<void()> task) { return pool_.Post(std::move(task)); }, &monitor_};
  }
  // A board that shows how often its watch has begun, fails when it is told to, and waits otherwise.
  WatchBoard Counting() {
    return [this](Board& board, bool fresh, const std::stop_token& stop) -> absl::Status {
      const std::string count = std::to_string(++begun_) + (fresh ? " fresh" : "");
      board.Put("count", MakeFrame(count, "{}"), "");
      if (fails_.exchange(false)) return absl::UnavailableError("killed");
      base::SleepUnlessStopped(std::chrono::seconds(20), stop);
      return absl::CancelledError("stopped");
    };
  }

  std::atomic<int> begun_ = 0;
  std::atomic<bool> fails_ = false;
  FakeWatch watch_;
  WorkerPool pool_{2, 10};
  ConnectionMonitor monitor_{[] { return absl::OkStatus(); }, absl::Milliseconds(1)};
};

TEST_F(HubTest, StreamsOfOneJobShareItsWatch) {
  watch_.Have(2);
  Hub hub(Jobs(), {});
  Reader one(*hub.Job("jobs/a", 0));
  Reader other(*hub.Job("jobs/a", 0));
  for (const char* expected : {"1", "2"}) {
    EXPECT_EQ(one.Next(), expected);
    EXPECT_EQ(other.Next(), expected);
  }
  EXPECT_EQ(watch_.begun().size(), 1U);
}

TEST_F(HubTest, AReaderThatComesBackHearsOfNothingTwice) {
  watch_.Have(5);
  Hub hub(Jobs(), {});
  Reader reader(*hub.Job("jobs/a", 3));
  for (const char* expected : {"4", "5"}) EXPECT_EQ(reader.Next(), expected);
}

TEST_F(HubTest, MoreJobsThanThereIsRoomForAreRefused) {
  Hub hub(Jobs(), {});
  std::vector<std::unique_ptr<FrameSource>> sources;
  for (size_t i = 0; i < Hub::kJobs; ++i) {
    sources.push_back(*hub.Job("jobs/j" + std::to_string(i), 0));
  }
  EXPECT_EQ(base::ReasonOf(hub.Job("jobs/more", 0).status()), "TOO_MANY_STREAMS");
  EXPECT_TRUE(hub.Job("jobs/j0", 0).ok());
}

TEST_F(HubTest, MoreStreamsThanThereIsRoomForAreRefused) {
  Hub hub(Jobs(), {});
  std::vector<std::unique_ptr<FrameSource>> sources;
  for (int i = 0; i < Hub::kStreams; ++i) sources.push_back(*hub.Job("jobs/a", 0));
  EXPECT_EQ(base::ReasonOf(hub.Job("jobs/a", 0).status()), "TOO_MANY_STREAMS");
  sources.pop_back();
  EXPECT_TRUE(hub.Job("jobs/a", 0).ok());
}

TEST_F(HubTest, ABoardIsWatchedOnceAndAgainWhenItsWatchBreaks) {
  fails_ = true;
  Hub hub(Jobs(), {{"jobs", Counting()}});
  Reader one(*hub.OfBoard("jobs", ""));
  EXPECT_EQ(one.Next(), "1 fresh");
  EXPECT_EQ(one.Next(), "2");
  Reader other(*hub.OfBoard("jobs", ""));
  EXPECT_EQ(other.Next(), "2");
  EXPECT_EQ(begun_, 2);
}

}  // namespace
}  // namespace espalier::dashboard
