#include "common/net/acceptor.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/net/source.h"
#include "common/net/within.h"

namespace espalier::net {
namespace {

constexpr int kPauseMs = 100;
// So many connections are taken from one socket before the next has its turn.
constexpr int kAtOnce = 64;

// Errors of accept() that concern this one connection, which is gone.
bool IsGone(int error) {
  return error == ECONNABORTED || error == EINTR || error == EPROTO || error == EPERM;
}

}  // namespace

Acceptor::Acceptor(Listener listener, AcceptorOptions options)
    : listener_(std::move(listener)),
      options_(std::move(options)),
      wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  ESPALIER_CHECK(wake_ >= 0, "the limit of open files is checked before");
  thread_ = std::thread([this] { Run(); });
}

Acceptor::~Acceptor() {
  const uint64_t one = 1;
  ESPALIER_CHECK(write(wake_, &one, sizeof(one)) == sizeof(one), "an eventfd takes a number");
  thread_.join();
  close(wake_);
}

void Acceptor::Run() {
  std::vector<pollfd> waiting{{wake_, POLLIN, 0}};
  for (const int fd : listener_.sockets()) waiting.push_back({fd, POLLIN, 0});
  for (;;) {
    poll(waiting.data(), waiting.size(), -1);
    bool out_of_descriptors = false;
    for (size_t i = 1; i < waiting.size(); ++i) {
      if (waiting[i].revents != 0 && !AcceptFrom(waiting[i].fd)) out_of_descriptors = true;
    }
    // The connection stays in the kernel's queue, so poll() would return at once.
    if (out_of_descriptors) poll(waiting.data(), 1, kPauseMs);
    if (waiting[0].revents != 0) return;
  }
}

bool Acceptor::AcceptFrom(int listener) {
  for (int i = 0; i < kAtOnce; ++i) {
    sockaddr_storage peer{};
    socklen_t size = sizeof(peer);
    const int fd =
        accept4(listener, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EAGAIN || errno == EWOULDBLOCK) return true;
      if (IsGone(errno)) continue;
      options_.refused(Refusal::kExhausted, "");
      return false;
    }
    const std::string from = PeerText(peer);
    if (const auto why = Refuses(fd, from)) {
      close(fd);
      options_.refused(*why, from);
      continue;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    options_.accepted(listener, fd, from);
  }
  return true;
}

std::optional<Refusal> Acceptor::Refuses(int fd, const std::string& peer) {
  {
    const base::MutexLock lock(mutex_);
    if (peer == itself_) return std::nullopt;
  }
  if (fd >= options_.below) return Refusal::kLimit;
  return options_.refuses ? options_.refuses(peer) : std::nullopt;
}

absl::StatusOr<int> Acceptor::ConnectToItself(int index, absl::Duration timeout) {
  return ConnectWithin(listener_.sockets()[static_cast<size_t>(index)], timeout,
                       [this](const std::string& peer) {
                         const base::MutexLock lock(mutex_);
                         itself_ = peer;
                       });
}

}  // namespace espalier::net
