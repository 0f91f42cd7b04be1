#include "client/dashboard/streams/connection_monitor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "client/dashboard/streams/event_stream.h"
#include "tests/unit/client/dashboard/fake_watch.h"

namespace espalier::dashboard {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(ConnectionMonitorTest, ALossIsTakenBackOnceTheCoordinatorAnswers) {
  std::atomic<bool> there = false;
  ConnectionMonitor monitor(
      [&there]() -> absl::Status {
        return there ? absl::OkStatus() : absl::UnavailableError("refused");
      },
      absl::Milliseconds(1));
  EXPECT_TRUE(monitor.state().connected);
  monitor.Lost(absl::UnavailableError("killed"));
  EXPECT_FALSE(monitor.state().connected);
  EXPECT_EQ(monitor.state().message, "killed");
  there = true;
  EXPECT_TRUE(monitor.WaitUntilConnected({}));
  EXPECT_TRUE(monitor.state().connected);
}

TEST(ConnectionMonitorTest, WaitingEndsWhenItIsToldTo) {
  ConnectionMonitor monitor([] { return absl::UnavailableError("refused"); },
                            absl::Milliseconds(1));
  monitor.Lost(absl::UnavailableError("killed"));
  std::stop_source stop;
  stop.request_stop();
  EXPECT_FALSE(monitor.WaitUntilConnected(stop.get_token()));
}

// A source without anything.
class Empty : public FrameSource {
 public:
  void Listen(std::function<void()> wake) override {}
  Next Take(Frame& frame) override { return Next::kNothing; }
};

std::string ReadAll(EventStream& stream, size_t room = 1000) {
  std::string text;
  for (;;) {
    std::string block(room, '\0');
    size_t count = 0;
    if (stream.Read(block.data(), room, count) != LiveBody::Progress::kBytes) return text;
    text.append(block, 0, count);
  }
}

TEST(EventStreamTest, SaysWhetherTheCoordinatorIsThere) {
  std::atomic<bool> there = false;
  ConnectionMonitor monitor(
      [&there]() -> absl::Status {
        return there ? absl::OkStatus() : absl::UnavailableError("refused");
      },
      absl::Milliseconds(1));
  EventStream stream(std::make_unique<Empty>(), monitor);
  stream.Listen([] {});
  EXPECT_EQ(ReadAll(stream), "retry: 2000\n\n");
  monitor.Lost(absl::UnavailableError("a \"quoted\"\nmessage"));
  EXPECT_THAT(
      ReadAll(stream, 7),
      AllOf(HasSubstr("event: disconnected\ndata: {\"message\":\"a \\\"quoted\\\"\\nmessage\","),
            HasSubstr("\"since\":\"2"), HasSubstr("Z\"}\n\n")));
  EXPECT_EQ(ReadAll(stream), "");
  there = true;
  monitor.WaitUntilConnected({});
  EXPECT_EQ(ReadAll(stream), "event: connected\ndata: {}\n\n");
}

TEST(EventStreamTest, SendsACommentWhenItWasSilentForLong) {
  ConnectionMonitor monitor([] { return absl::OkStatus(); });
  EventStream stream(std::make_unique<Empty>(), monitor);
  stream.Listen([] {});
  ReadAll(stream);
  EXPECT_FALSE(stream.Tick(absl::Now() + absl::Seconds(9)));
  EXPECT_EQ(ReadAll(stream), "");
  EXPECT_TRUE(stream.Tick(absl::Now() + absl::Seconds(11)));
  EXPECT_EQ(ReadAll(stream), ":\n\n");
}

}  // namespace
}  // namespace espalier::dashboard
