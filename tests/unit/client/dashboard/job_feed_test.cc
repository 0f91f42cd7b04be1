#include "client/dashboard/streams/job_feed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "absl/time/clock.h"
#include "client/dashboard/http/worker_pool.h"
#include "tests/unit/client/dashboard/fake_watch.h"

namespace espalier::dashboard {
namespace {

using ::testing::ElementsAre;

class JobFeedTest : public ::testing::Test {
 protected:
  std::shared_ptr<JobFeed> Start(int64_t first) {
    return JobFeed::Start(
        "jobs/a", first,
        {watch_.watch(), [this](std::function<void()> task) { return pool_.Post(std::move(task)); },
         &monitor_});
  }
  // As long after the last event as it takes to be sure that no past is left.
  static void Silence(JobFeed& feed) { feed.Tick(absl::Now() + absl::Seconds(3)); }

  FakeWatch watch_;
  WorkerPool pool_{2, 10};
  ConnectionMonitor monitor_{[] { return absl::OkStatus(); }, absl::Milliseconds(1)};
};

TEST_F(JobFeedTest, AllReadersShareOneWatch) {
  watch_.Have(3);
  const auto feed = Start(1);
  Reader one(feed->Subscribe(0));
  Reader other(feed->Subscribe(1));
  for (const char* expected : {"1", "2", "3"}) EXPECT_EQ(one.Next(), expected);
  for (const char* expected : {"2", "3"}) EXPECT_EQ(other.Next(), expected);
  watch_.Have(4);
  EXPECT_EQ(one.Next(), "4");
  EXPECT_EQ(other.Next(), "4");
  EXPECT_THAT(watch_.begun(), ElementsAre(0));
  EXPECT_EQ(feed->subscribers(), 2);
}

TEST_F(JobFeedTest, TheEndOfThePastIsToldOnceAndThenWhatComes) {
  watch_.Have(2);
  const auto feed = Start(1);
  Reader reader(feed->Subscribe(0));
  EXPECT_EQ(reader.Next(), "1");
  EXPECT_EQ(reader.Next(), "2");
  Silence(*feed);
  EXPECT_EQ(reader.Next(), "caught-up");
  watch_.Have(3);
  EXPECT_EQ(reader.Next(), "3");
}

TEST_F(JobFeedTest, AnEndedJobEndsItsStreams) {
  watch_.Have(2);
  watch_.End(absl::OkStatus());
  const auto feed = Start(1);
  Reader reader(feed->Subscribe(0));
  for (const char* expected : {"1", "2", "caught-up", "end", "END"}) {
    EXPECT_EQ(reader.Next(), expected);
  }
  // Also those that come later.
  Reader late(feed->Subscribe(2));
  for (const char* expected : {"caught-up", "end", "END"}) EXPECT_EQ(late.Next(), expected);
}

TEST_F(JobFeedTest, OlderEventsThanAreKeptAreReadPageByPage) {
  watch_.Have(2000);
  const auto feed = Start(1990);
  Reader reader(feed->Subscribe(0));
  for (int i = 1; i <= 2000; ++i) ASSERT_EQ(reader.Next(), std::to_string(i));
  watch_.Have(2001);
  EXPECT_EQ(reader.Next(), "2001");
  // One for the feed, and a page for each 500 events.
  EXPECT_EQ(watch_.begun().size(), 5U);
}

TEST_F(JobFeedTest, ABrokenWatchGoesOnAfterTheLastEvent) {
  watch_.Have(2);
  const auto feed = Start(1);
  Reader reader(feed->Subscribe(0));
  EXPECT_EQ(reader.Next(), "1");
  EXPECT_EQ(reader.Next(), "2");
  watch_.End(absl::UnavailableError("killed"));
  watch_.EndNoMore();
  watch_.Have(3);
  EXPECT_EQ(reader.Next(), "3");
}

TEST_F(JobFeedTest, FewerEventsThanBeforeAreAReset) {
  watch_.Have(2);
  const auto feed = Start(6);
  Reader reader(feed->Subscribe(5));
  for (const char* expected : {"reset", "1", "2"}) EXPECT_EQ(reader.Next(), expected);
}

TEST_F(JobFeedTest, AJobThatIsGoneEndsItsStreams) {
  watch_.Have(1);
  watch_.End(absl::NotFoundError("deleted"));
  const auto feed = Start(1);
  Reader reader(feed->Subscribe(0));
  for (const char* expected : {"1", "caught-up", "gone", "END"}) EXPECT_EQ(reader.Next(), expected);
}

}  // namespace
}  // namespace espalier::dashboard
