#include "common/net/connections.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace espalier::net {
namespace {

constexpr absl::Duration kLook = absl::Seconds(1);

// 0 when there is no such descriptor.
ino_t IdentityOf(int fd) {
  struct stat file {};
  return fstat(fd, &file) == 0 ? file.st_ino : 0;
}

uint64_t BytesReceived(int fd) {
  tcp_info info{};
  socklen_t size = sizeof(info);
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0 ? info.tcpi_bytes_received : 0;
}

// Ends the connection for both sides; its owner sees the end and closes it. False when it is gone
// already, or no descriptor is left for a moment.
bool ShutDown(int fd, ino_t identity) {
  const int held = dup(fd);
  if (held < 0) return false;
  const bool same = IdentityOf(held) == identity;
  if (same) shutdown(held, SHUT_RDWR);
  close(held);
  return same;
}

}  // namespace

Connections::Connections(const base::Clock& clock, absl::Duration limit,
                         std::function<void(const std::string& peer)> ended)
    : clock_(clock), limit_(limit), ended_(std::move(ended)) {}

void Connections::Accepted(int fd, const std::string& peer) {
  const base::MutexLock lock(mutex_);
  Connection& connection = connections_[fd];
  // The number was another connection's, which is closed.
  if (!connection.peer.empty()) Forget(connection.peer);
  connection = {IdentityOf(fd), peer, 0};
  ++PeerAt(peer).connections;
}

void Connections::CallBegan(const std::string& peer) {
  const base::MutexLock lock(mutex_);
  Peer& caller = PeerAt(peer);
  ++caller.calls;
  caller.unanswered_since.reset();
}

void Connections::CallEnded(const std::string& peer) {
  const base::MutexLock lock(mutex_);
  Peer& caller = PeerAt(peer);
  if (--caller.calls > 0) return;
  caller.quiet_since = clock_.Elapsed();
  caller.unanswered_since.reset();
  if (caller.connections == 0) peers_.erase(peer);
}

void Connections::Expire() {
  std::vector<std::string> ended;
  {
    const base::MutexLock lock(mutex_);
    const absl::Duration now = clock_.Elapsed();
    if (now - looked_ < kLook) return;
    looked_ = now;
    for (auto it = connections_.begin(); it != connections_.end();) {
      auto& [fd, connection] = *it;
      const bool gone = IdentityOf(fd) != connection.identity;
      const bool shut =
          !gone && IsOverdue(fd, connection, now) && ShutDown(fd, connection.identity);
      if (shut) ended.push_back(connection.peer);
      if (gone || shut) {
        Forget(connection.peer);
        it = connections_.erase(it);
      } else {
        ++it;
      }
    }
  }
  for (const std::string& peer : ended) ended_(peer);
}

Connections::Peer& Connections::PeerAt(const std::string& peer) {
  return peers_.try_emplace(peer, Peer{0, 0, clock_.Elapsed(), std::nullopt}).first->second;
}

void Connections::Forget(const std::string& peer) {
  Peer& caller = PeerAt(peer);
  if (--caller.connections <= 0 && caller.calls <= 0) peers_.erase(peer);
}

bool Connections::IsOverdue(int fd, Connection& connection, absl::Duration now) {
  Peer& peer = PeerAt(connection.peer);
  if (peer.calls > 0) return false;
  const uint64_t received = BytesReceived(fd);
  const bool more = received != std::exchange(connection.received, received);
  if (now - peer.quiet_since < kSettle) return false;
  if (more && !peer.unanswered_since.has_value()) peer.unanswered_since = now;
  return peer.unanswered_since.has_value() && now - *peer.unanswered_since >= limit_;
}

}  // namespace espalier::net
