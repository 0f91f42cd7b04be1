#include "common/net/connections.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "common/net/source.h"

namespace espalier::net {
namespace {

constexpr absl::Duration kLook = absl::Seconds(1);

// Whether three quarters are taken.
bool IsMost(size_t taken, int of) { return static_cast<int64_t>(taken) * 4 >= int64_t{of} * 3; }

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

Connections::Connections(const base::Clock& clock, const ConnectionLimits& limits,
                         std::function<void(Overdue, const std::string& peer)> ended)
    : clock_(clock), limits_(limits), ended_(std::move(ended)) {}

std::optional<Refusal> Connections::Refuses(const std::string& peer) {
  std::vector<std::string> ended;
  std::optional<Refusal> why;
  {
    const base::MutexLock lock(mutex_);
    if (!SourceHasRoom(peer)) {
      why = Refusal::kSource;
    } else if (!NewcomersHaveRoom(ended)) {
      why = Refusal::kLimit;
    }
  }
  for (const std::string& other : ended) ended_(Overdue::kFirstCall, other);
  return why;
}

bool Connections::SourceHasRoom(const std::string& peer) {
  if (limits_.per_source == 0) return true;
  const auto limit = static_cast<size_t>(limits_.per_source);
  const auto source = sources_.find(SourceOf(peer));
  if (source == sources_.end() || source->second.connections.size() < limit) return true;
  const absl::Duration now = clock_.Elapsed();
  if (now - source->second.counted < kRecount) return false;
  source->second.counted = now;
  return ForgetWhatIsGone(source->second);
}

bool Connections::NewcomersHaveRoom(std::vector<std::string>& ended) {
  const auto limit = static_cast<size_t>(limits_.newcomers);
  if (newcomers_.size() < limit) return true;
  const absl::Duration now = clock_.Elapsed();
  if (now - newcomers_counted_ >= kRecount) {
    newcomers_counted_ = now;
    ForgetFormerNewcomers();
  }
  while (newcomers_.size() >= limit) {
    const Newcomer oldest = newcomers_.front();
    if (IsNew(oldest)) {
      const auto connection = connections_.find(oldest.fd);
      if (now - connection->second.accepted < kLeast) return false;
      if (!ShutDown(oldest.fd, connection->second.identity)) return false;
      ended.push_back(connection->second.peer);
      Forget(oldest.fd, connection->second);
      connections_.erase(connection);
    }
    newcomers_.pop_front();
  }
  return true;
}

void Connections::ForgetFormerNewcomers() {
  std::deque<Newcomer> left;
  for (const Newcomer& one : newcomers_) {
    if (IsNew(one)) left.push_back(one);
  }
  newcomers_.swap(left);
}

bool Connections::IsNew(const Newcomer& newcomer) const {
  const auto connection = connections_.find(newcomer.fd);
  return connection != connections_.end() && connection->second.number == newcomer.number &&
         IdentityOf(newcomer.fd) == connection->second.identity &&
         !peers_.at(connection->second.peer).called;
}

void Connections::Accepted(int fd, const std::string& peer) {
  const base::MutexLock lock(mutex_);
  // The number was another connection's, which is closed.
  if (const auto former = connections_.find(fd); former != connections_.end()) {
    Forget(fd, former->second);
  }
  const absl::Duration now = clock_.Elapsed();
  const std::string source = SourceOf(peer);
  connections_[fd] = {IdentityOf(fd), peer, source, now, now, 0, ++accepted_};
  newcomers_.push_back({fd, accepted_});
  sources_[source].connections.insert(fd);
  ++PeerAt(peer).connections;
}

void Connections::CallBegan(const std::string& peer) {
  const base::MutexLock lock(mutex_);
  Peer& caller = PeerAt(peer);
  ++caller.calls;
  caller.called = true;
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
  std::vector<std::pair<Overdue, std::string>> ended;
  {
    const base::MutexLock lock(mutex_);
    const absl::Duration now = clock_.Elapsed();
    if (now - looked_ < kLook) return;
    looked_ = now;
    for (auto it = connections_.begin(); it != connections_.end();) {
      auto& [fd, connection] = *it;
      bool gone = IdentityOf(fd) != connection.identity;
      if (!gone) {
        const auto why = IsOverdue(fd, connection, now);
        if (why.has_value() && ShutDown(fd, connection.identity)) {
          ended.emplace_back(*why, connection.peer);
          gone = true;
        }
      }
      if (gone) Forget(fd, connection);
      it = gone ? connections_.erase(it) : std::next(it);
    }
    ForgetFormerNewcomers();
  }
  for (const auto& [why, peer] : ended) ended_(why, peer);
}

Connections::Peer& Connections::PeerAt(const std::string& peer) {
  return peers_.try_emplace(peer, Peer{0, 0, false, clock_.Elapsed(), std::nullopt}).first->second;
}

void Connections::Forget(int fd, const Connection& connection) {
  Peer& caller = PeerAt(connection.peer);
  if (--caller.connections <= 0 && caller.calls <= 0) peers_.erase(connection.peer);
  Source& source = sources_[connection.source];
  source.connections.erase(fd);
  if (source.connections.empty()) sources_.erase(connection.source);
}

bool Connections::ForgetWhatIsGone(const Source& source) {
  // Forget() takes them out of the source, and the last one takes the source.
  std::vector<int> gone;
  for (const int fd : source.connections) {
    if (IdentityOf(fd) != connections_.at(fd).identity) gone.push_back(fd);
  }
  for (const int fd : gone) {
    const auto connection = connections_.extract(fd);
    Forget(fd, connection.mapped());
  }
  return !gone.empty();
}

bool Connections::IsScarce(const Connection& connection) const {
  if (IsMost(connections_.size(), limits_.room)) return true;
  return limits_.per_source > 0 &&
         IsMost(sources_.at(connection.source).connections.size(), limits_.per_source);
}

std::optional<Overdue> Connections::IsOverdue(int fd, Connection& connection, absl::Duration now) {
  Peer& peer = PeerAt(connection.peer);
  if (peer.calls > 0) return std::nullopt;
  const uint64_t received = BytesReceived(fd);
  const bool more = received != std::exchange(connection.received, received);
  if (more) connection.heard = now;
  const bool scarce = IsScarce(connection);
  if (peer.called) {
    if (scarce && now - peer.quiet_since >= kFirstCall) return Overdue::kFirstCall;
  } else {
    const absl::Duration silence = now - connection.heard;
    if (silence >= (scarce ? kScarceFirstCall : kFirstCall)) return Overdue::kFirstCall;
    if (scarce && now - connection.accepted >= kFirstCall) return Overdue::kFirstCall;
  }
  if (now - peer.quiet_since < kSettle) return std::nullopt;
  if (more && !peer.unanswered_since.has_value()) peer.unanswered_since = now;
  if (!peer.unanswered_since.has_value()) return std::nullopt;
  if (now - *peer.unanswered_since < limits_.request) return std::nullopt;
  return Overdue::kRequest;
}

}  // namespace espalier::net
