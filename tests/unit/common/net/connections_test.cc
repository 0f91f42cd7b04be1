// Real sockets over loopback under a clock of the test.
#include "common/net/connections.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "tests/support/fake_clock.h"

namespace espalier::net {
namespace {

constexpr absl::Duration kLimit = absl::Seconds(60);
constexpr int kRoom = 12;
constexpr int kPerSource = 8;
constexpr int kNewcomers = 10;
constexpr absl::Duration kSecond = absl::Seconds(1);

// Both ends of a TCP connection.
struct Pair {
  Pair() {
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    EXPECT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(listen(listener, 1), 0);
    getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
    client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(connect(client, reinterpret_cast<sockaddr*>(&address), size), 0);
    server = accept(listener, nullptr, nullptr);
    close(listener);
  }
  ~Pair() {
    close(client);
    if (server >= 0) close(server);
  }
  Pair(const Pair&) = delete;
  Pair& operator=(const Pair&) = delete;

  void Send() {
    EXPECT_EQ(send(client, "x", 1, MSG_NOSIGNAL), 1);
    char byte = 0;
    EXPECT_EQ(recv(server, &byte, 1, 0), 1);  // it has arrived
  }
  bool IsOpen() const {
    pollfd wait{client, POLLIN, 0};
    return poll(&wait, 1, 0) == 0;
  }

  // The end takes a moment to arrive.
  bool Ends() const {
    pollfd wait{client, POLLIN, 0};
    return poll(&wait, 1, 10'000) == 1;
  }

  int client = -1;
  int server = -1;
};

class ConnectionsTest : public testing::Test {
 protected:
  void Pass(absl::Duration time) {
    for (absl::Duration at; at < time; at += kSecond) {
      clock_.Advance(kSecond);
      connections_.Expire();
    }
  }
  // Sends a byte every ten seconds.
  void Drip(Pair& pair, absl::Duration time) {
    for (absl::Duration at; at < time && pair.IsOpen(); at += absl::Seconds(10)) {
      pair.Send();
      Pass(absl::Seconds(10));
    }
  }

  bool Admits(const std::string& peer) { return !connections_.Refuses(peer).has_value(); }

  test::FakeClock clock_;
  std::vector<std::string> ended_;
  Connections connections_{
      clock_,
      {.request = kLimit, .room = kRoom, .per_source = kPerSource, .newcomers = kNewcomers},
      [this](Overdue why, const std::string& peer) {
        ended_.push_back((why == Overdue::kRequest ? "request " : "no call ") + peer);
      }};
  Pair pair_;
};

TEST_F(ConnectionsTest, DripsOfWhichNoCallComesEndTheirConnection) {
  connections_.Accepted(pair_.server, "a:1");
  Drip(pair_, Connections::kSettle + kLimit);
  EXPECT_TRUE(pair_.IsOpen());
  Drip(pair_, absl::Seconds(20));
  EXPECT_TRUE(pair_.Ends());
  EXPECT_EQ(ended_, std::vector<std::string>{"request a:1"});
}

TEST_F(ConnectionsTest, SilentConnectionsThatHadACallAndThoseWithACallStay) {
  Pair silent;
  connections_.Accepted(pair_.server, "a:1");
  connections_.Accepted(silent.server, "a:2");
  silent.Send();  // its settings
  connections_.CallBegan("a:2");
  connections_.CallEnded("a:2");
  connections_.CallBegan("a:1");
  Drip(pair_, 10 * kLimit);
  EXPECT_TRUE(pair_.IsOpen());
  EXPECT_TRUE(silent.IsOpen());
  EXPECT_TRUE(ended_.empty());
}

TEST_F(ConnectionsTest, CallThatBeginsInTimeBeginsTheWaitAnew) {
  connections_.Accepted(pair_.server, "a:1");
  connections_.CallBegan("a:1");
  connections_.CallEnded("a:1");
  for (int i = 0; i < 5; ++i) {
    Pass(absl::Seconds(100));
    Drip(pair_, kLimit - absl::Seconds(10));
    connections_.CallBegan("a:1");
    connections_.CallEnded("a:1");
    pair_.Send();  // what a client still sends
  }
  EXPECT_TRUE(pair_.IsOpen());
}

TEST_F(ConnectionsTest, DripsAfterACallEndTheConnection) {
  connections_.Accepted(pair_.server, "a:1");
  connections_.CallBegan("a:1");
  connections_.CallBegan("a:1");
  connections_.CallEnded("a:1");
  Drip(pair_, 2 * kLimit);
  EXPECT_TRUE(pair_.IsOpen());
  connections_.CallEnded("a:1");
  Drip(pair_, 2 * kLimit);
  EXPECT_TRUE(pair_.Ends());
}

TEST_F(ConnectionsTest, ReusedNumberIsAnotherConnection) {
  connections_.Accepted(pair_.server, "a:1");
  Drip(pair_, kLimit);
  Pair other;
  // The number of the first connection is another one's now, of which nobody was told.
  EXPECT_EQ(dup2(other.server, pair_.server), pair_.server);
  Drip(other, 2 * kLimit);
  EXPECT_TRUE(other.IsOpen());
  EXPECT_TRUE(ended_.empty());
}

TEST_F(ConnectionsTest, CallsOfAConnectionThatIsGoneDoNotCountForTheNextOneOfItsPeer) {
  connections_.Accepted(pair_.server, "a:1");
  connections_.CallBegan("a:1");
  close(pair_.server);
  pair_.server = -1;
  Pass(kSecond);
  connections_.CallEnded("a:1");
  Pair next;
  connections_.Accepted(next.server, "a:1");
  connections_.CallBegan("a:1");
  Drip(next, 2 * kLimit);
  EXPECT_TRUE(next.IsOpen());
  connections_.CallEnded("a:1");
  Drip(next, 2 * kLimit);
  EXPECT_TRUE(next.Ends());
}

TEST_F(ConnectionsTest, SilenceWithoutAFirstCallEndsAConnection) {
  connections_.Accepted(pair_.server, "a:1");
  pair_.Send();  // its settings
  Pass(Connections::kFirstCall);
  EXPECT_TRUE(pair_.IsOpen());
  Pass(absl::Seconds(2));
  EXPECT_TRUE(pair_.Ends());
  EXPECT_EQ(ended_, std::vector<std::string>{"no call a:1"});
}

TEST_F(ConnectionsTest, ASourceHasNoMoreThanItsShare) {
  std::vector<Pair> pairs(kPerSource);
  for (int i = 0; i < kPerSource; ++i) {
    const std::string peer = "a:" + std::to_string(i);
    EXPECT_TRUE(Admits(peer));
    connections_.Accepted(pairs[static_cast<size_t>(i)].server, peer);
  }
  EXPECT_FALSE(Admits("a:100"));
  EXPECT_TRUE(Admits("b:100"));
  // A connection that is gone leaves room, however short a time ago.
  close(pairs[3].server);
  pairs[3].server = -1;
  clock_.Advance(Connections::kRecount);
  EXPECT_TRUE(Admits("a:101"));
  // Its number may be taken by another source meanwhile.
  Pair other;
  connections_.Accepted(other.server, "b:1");
  EXPECT_TRUE(Admits("a:101"));
}

TEST_F(ConnectionsTest, NumbersThatAreUsedAgainDoNotFillASource) {
  connections_.Accepted(pair_.server, "a:1");
  for (int i = 0; i < 10 * kPerSource; ++i) {
    EXPECT_TRUE(Admits("a:1"));
    connections_.Accepted(pair_.server, "a:" + std::to_string(i));
  }
}

TEST_F(ConnectionsTest, WithoutALimitASourceHasAllThereIs) {
  Connections any(clock_, {.request = kLimit}, [](Overdue, const std::string&) {});
  for (int i = 0; i < 100; ++i) {
    any.Accepted(1'000 + i, "a:" + std::to_string(i));
    EXPECT_TRUE(any.Refuses("a:1000") == std::nullopt);
  }
}

class NewcomersTest : public ConnectionsTest {
 protected:
  // So many connections of different sources that have no call yet; the last one is the newest.
  void Accept(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const std::string peer = std::to_string(i) + ":1";
      EXPECT_TRUE(Admits(peer));
      connections_.Accepted(pairs_[i].server, peer);
    }
  }

  std::vector<Pair> pairs_{kNewcomers};
};

TEST_F(NewcomersTest, OneMoreTakesThePlaceOfTheOneThatWaitsLongest) {
  Accept(kNewcomers);
  EXPECT_EQ(connections_.Refuses("b:1"), Refusal::kLimit);
  clock_.Advance(Connections::kLeast);
  EXPECT_TRUE(Admits("b:1"));
  connections_.Accepted(pair_.server, "b:1");
  EXPECT_EQ(ended_, std::vector<std::string>{"no call 0:1"});
  EXPECT_TRUE(pairs_[0].Ends());
  for (size_t i = 1; i < kNewcomers; ++i) EXPECT_TRUE(pairs_[i].IsOpen());
}

TEST_F(NewcomersTest, WhoHadACallIsNoneAndStays) {
  Accept(kNewcomers);
  connections_.CallBegan("0:1");
  EXPECT_TRUE(Admits("b:1"));
  connections_.Accepted(pair_.server, "b:1");
  clock_.Advance(Connections::kLeast);
  EXPECT_TRUE(Admits("b:2"));
  EXPECT_TRUE(pairs_[0].IsOpen());
  EXPECT_TRUE(pairs_[1].Ends());
}

TEST_F(NewcomersTest, WhoIsGoneIsNone) {
  Accept(kNewcomers);
  close(pairs_[5].server);
  pairs_[5].server = -1;
  EXPECT_TRUE(Admits("b:1"));
  EXPECT_TRUE(ended_.empty());
}

class ScarceConnectionsTest : public ConnectionsTest {
 protected:
  // All of these have a call, but are most of what there can be.
  void TakeMost(const std::string& source, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const std::string peer = source + ":9" + std::to_string(i);
      connections_.Accepted(busy_[i].server, peer);
      connections_.CallBegan(peer);
    }
  }

  std::vector<Pair> busy_{kRoom};
};

TEST_F(ScarceConnectionsTest, FirstCallsMustComeSooner) {
  TakeMost("b", 8);
  connections_.Accepted(pair_.server, "a:1");
  Pass(Connections::kScarceFirstCall - kSecond);
  EXPECT_TRUE(pair_.IsOpen());
  Pass(absl::Seconds(2));
  EXPECT_TRUE(pair_.Ends());
  for (const Pair& pair : busy_) EXPECT_TRUE(pair.IsOpen());
}

TEST_F(ScarceConnectionsTest, FirstCallsMustComeSoonerWhenTheirSourceHasFewLeft) {
  TakeMost("a", 5);
  Pair other;
  connections_.Accepted(pair_.server, "a:1");
  connections_.Accepted(other.server, "b:1");
  Pass(Connections::kScarceFirstCall + absl::Seconds(2));
  EXPECT_TRUE(pair_.Ends());
  EXPECT_TRUE(other.IsOpen());
}

TEST_F(ScarceConnectionsTest, DripsAndWaitsForTheNextCallEndSooner) {
  TakeMost("b", 8);
  Pair waits;
  connections_.Accepted(pair_.server, "a:1");
  connections_.Accepted(waits.server, "a:2");
  connections_.CallBegan("a:2");
  connections_.CallEnded("a:2");
  for (int i = 0; i < 6; ++i) {
    pair_.Send();
    Pass(absl::Seconds(3));
  }
  EXPECT_TRUE(pair_.IsOpen());
  EXPECT_TRUE(waits.IsOpen());
  Pass(absl::Seconds(4));
  EXPECT_TRUE(pair_.Ends());
  EXPECT_TRUE(waits.Ends());
  // With one less there is enough again.
  close(busy_[0].server);
  busy_[0].server = -1;
  Pair next;
  connections_.Accepted(next.server, "a:3");
  Pass(Connections::kFirstCall - kSecond);
  EXPECT_TRUE(next.IsOpen());
}

}  // namespace
}  // namespace espalier::net
