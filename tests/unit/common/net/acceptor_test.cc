#include "common/net/acceptor.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

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
            [this](bool at_limit, const std::string&) {
              const std::lock_guard lock(mutex_);
              ++(at_limit ? at_limit_ : exhausted_);
              changed_.notify_all();
            }};
  }
  ~Told() {
    for (const int fd : accepted_) close(fd);
  }
  bool Within10s(const std::function<bool()>& holds) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, std::chrono::seconds(10), holds);
  }
  size_t accepted() const { return accepted_.size(); }
  int at_limit() const { return at_limit_; }
  int exhausted() const { return exhausted_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<int> accepted_;
  int at_limit_ = 0;
  int exhausted_ = 0;
};

int Connect(const Listener& listener) {
  sockaddr_in address{};
  socklen_t size = sizeof(address);
  getsockname(listener.sockets().front(), reinterpret_cast<sockaddr*>(&address), &size);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), size), 0);
  return fd;
}

int ConnectTo(const std::string& address) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(static_cast<uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
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
      EXPECT_TRUE(told.Within10s([&] { return told.accepted() + told.at_limit() == i; }));
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

}  // namespace
}  // namespace espalier::net
