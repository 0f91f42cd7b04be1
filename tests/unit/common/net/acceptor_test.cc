#include "common/net/acceptor.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace espalier::net {
namespace {

// Collects what an acceptor tells.
class Told {
 public:
  AcceptorOptions Options(int below) {
    return {below,
            [this](int, int fd, const std::string&) {
              const std::lock_guard lock(mutex_);
              accepted_.push_back(fd);
              changed_.notify_all();
            },
            [this](Refusal why, const std::string&) {
              const std::lock_guard lock(mutex_);
              ++refused_[why];
              changed_.notify_all();
            },
            refuses};
  }
  ~Told() {
    for (const int fd : accepted_) close(fd);
  }
  bool Within10s(const std::function<bool()>& holds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), holds);
  }
  size_t accepted() const { return accepted_.size(); }
  int at_limit() { return refused_[Refusal::kLimit]; }
  int of_source() { return refused_[Refusal::kSource]; }
  int exhausted() { return refused_[Refusal::kExhausted]; }

  std::function<std::optional<Refusal>(const std::string&)> refuses;

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> accepted_;
  std::map<Refusal, int> refused_;
};

int Connect(const Listener& listener) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  getsockname(listener.sockets().front(), reinterpret_cast<sockaddr*>(&address), &size);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  return fd;
}

int ConnectTo(const std::string& address, const char* from = "127.0.0.1") {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in own{};
  own.sin_family = AF_INET;
  inet_pton(AF_INET, from, &own.sin_addr);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof(own)), 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  return fd;
}

TEST(AcceptorTest, ConnectionsBeyondTheLimitAreClosedAndOthersStay) {
  Listener listener = Listener::Open("127.0.0.1:0", "--listen").value();
  const std::string address = listener.address();
  const int next = dup(0);
  close(next);
  Told told;
  std::vector<int> clients;
  {
    // Each connection takes two numbers here, since both ends are in this process: one after the
    // other, so that those of the first ones are below the limit.
    const Acceptor acceptor(std::move(listener), told.Options(next + 10));
    for (size_t i = 1; i <= 12; ++i) {
      clients.push_back(ConnectTo(address));
      EXPECT_TRUE(told.Within10s(
          [&] { return told.accepted() + static_cast<size_t>(told.at_limit()) == i; }));
    }
  }
  EXPECT_GT(told.accepted(), 0u);
  EXPECT_GT(told.at_limit(), 0);
  for (const int fd : clients) close(fd);
}

TEST(AcceptorTest, ListensAgainWhenDescriptorsAreFreeAgain) {
  Listener listener = Listener::Open("127.0.0.1:0", "--listen").value();
  const int client = Connect(listener);
  const int taken = dup(0);
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  Told told;
  {
    // One number for the acceptor's own descriptor, none for connections.
    rlimit low = before;
    low.rlim_cur = static_cast<rlim_t>(taken) + 2;
    setrlimit(RLIMIT_NOFILE, &low);
    const Acceptor acceptor(std::move(listener), told.Options(1 << 20));
    EXPECT_TRUE(told.Within10s([&] { return told.exhausted() >= 2; }));
    EXPECT_EQ(told.accepted(), 0u);
    close(taken);
    EXPECT_TRUE(told.Within10s([&] { return told.accepted() == 1; }));
  }
  setrlimit(RLIMIT_NOFILE, &before);
  close(client);
}

TEST(AcceptorTest, ASourceThatMayHaveNoMoreIsRefusedAndOthersAreTaken) {
  Listener listener = Listener::Open("127.0.0.1:0", "--listen").value();
  const std::string address = listener.address();
  Told told;
  told.refuses = [](const std::string& peer) -> std::optional<Refusal> {
    if (peer.starts_with("127.0.0.1:")) return Refusal::kSource;
    return std::nullopt;
  };
  std::vector<int> clients;
  {
    const Acceptor acceptor(std::move(listener), told.Options(1 << 20));
    clients.push_back(ConnectTo(address));
    EXPECT_TRUE(told.Within10s([&] { return told.of_source() == 1; }));
    clients.push_back(ConnectTo(address, "127.0.0.2"));
    EXPECT_TRUE(told.Within10s([&] { return told.accepted() == 1; }));
  }
  for (const int fd : clients) close(fd);
}

// Whatever it listens on, and whatever the limits say.
TEST(AcceptorTest, ConnectsToItselfThoughNobodyElseIsTaken) {
  for (const char* address : {"127.0.0.1:0", "127.0.0.7:0", "0.0.0.0:0", "[::1]:0", "[::]:0"}) {
    SCOPED_TRACE(address);
    auto listener = Listener::Open(address, "--listen");
    // Machines without IPv6 have no such address.
    if (!listener.ok() && address[0] == '[') continue;
    Told told;
    told.refuses = [](const std::string&) { return Refusal::kSource; };
    Acceptor acceptor(*std::move(listener), told.Options(0));
    ASSERT_EQ(acceptor.sockets(), 1);
    for (size_t i = 1; i <= 3; ++i) {
      const auto fd = acceptor.ConnectToItself(0, absl::Seconds(10));
      ASSERT_TRUE(fd.ok()) << fd.status();
      EXPECT_TRUE(told.Within10s([&] { return told.accepted() == i; }));
      close(*fd);
    }
    EXPECT_EQ(told.at_limit() + told.of_source(), 0);
  }
}

TEST(AcceptorTest, SaysThatItCannotConnectWithoutDescriptors) {
  Told told;
  Acceptor acceptor(Listener::Open("127.0.0.1:0", "--listen").value(), told.Options(1 << 20));
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = 3;
  setrlimit(RLIMIT_NOFILE, &none);
  const auto fd = acceptor.ConnectToItself(0, absl::Seconds(10));
  setrlimit(RLIMIT_NOFILE, &before);
  EXPECT_EQ(base::ReasonOf(fd.status()), "NOT_HEARD");
  EXPECT_NE(base::MessageOf(fd.status()).find("cannot open a socket"), std::string::npos)
      << fd.status();
}

}  // namespace
}  // namespace espalier::net
