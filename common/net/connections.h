// Connections: bounds the accepted connections on which no call is, so that strangers cannot take
// the place of those who work.
//
// A server hears of a call when its headers, and the request of a call that has only one, are
// whole. A peer that sends them byte by byte would keep its connection for ever, since a call that
// is half there counts as a call for gRPC. Here it counts once it has begun.
//
// Sources:   of one source (source.h) there are at most `per_source` connections; whether there is
//            room for one more is asked before it is taken.
// Newcomers: there are at most `newcomers` that never had a call, since a handshake takes memory. One
//            more takes the place of the one that waits longest, if that has had `kLeast`, and is
//            refused otherwise: who calls at once gets in, however many others do not.
// Requests:  on a connection without a call, bytes that come later than `kSettle` after it was
//            accepted, or after its last call ended, are the start of a call, which must have begun
//            within `request` from there. Otherwise the connection is shut down.
// Silence:   a connection that never had a call is shut down when nothing has come on it for
//            `kFirstCall`. One that had a call may wait for the next one; that is gRPC's to end.
// Scarcity:  when three quarters of all connections, or of those of one source, are taken, the
//            first call must come within `kFirstCall` whatever is sent before, and after a silence
//            of `kScarceFirstCall` at most; and those that had a call are shut down when they have
//            waited for the next one for `kFirstCall`. Clients connect again when they have a call.
// Identity:  a descriptor's number may be another file's by now. It is compared by the file's inode
//            before it is looked at, and held by a duplicate while it is shut down.
// Cost:      two system calls a second for each connection without a call; no descriptors. At a
//            limit: one for each connection that counts, at most every `kRecount`.
// Threading: thread-safe. `ended` is called by Refuses() and Expire(), without a lock held.
#pragma once

#include <sys/types.h>

#include <climits>
#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"
#include "common/net/acceptor.h"

namespace espalier::net {

struct ConnectionLimits {
  absl::Duration request;
  int room = INT_MAX;  // connections that the process can have; what is scarce is measured by it
  int per_source = 0;  // 0: as many as there is room for
  int newcomers = INT_MAX;
};

// Why a connection was shut down: bytes of which no call came, or no call at all.
enum class Overdue { kRequest, kFirstCall };

class Connections {
 public:
  // For a handshake, and for what a client still sends when its call has ended.
  static constexpr absl::Duration kSettle = absl::Seconds(10);
  static constexpr absl::Duration kFirstCall = absl::Seconds(20);
  static constexpr absl::Duration kScarceFirstCall = absl::Seconds(5);
  static constexpr absl::Duration kLeast = absl::Seconds(1);
  static constexpr absl::Duration kRecount = absl::Milliseconds(50);

  // `ended` is told the peer of each connection that was shut down.
  Connections(const base::Clock& clock, const ConnectionLimits& limits,
              std::function<void(Overdue why, const std::string& peer)> ended);

  // Why there may not be one more connection of `peer`, which is as net::AcceptorOptions gives it;
  // nothing when there may.
  std::optional<Refusal> Refuses(const std::string& peer);
  // A connection that is about to be handed on.
  void Accepted(int fd, const std::string& peer);
  // Each call once, with the peer of its connection.
  void CallBegan(const std::string& peer);
  void CallEnded(const std::string& peer);

  // To be called regularly. Looks at most once a second.
  void Expire();

 private:
  struct Connection {
    ino_t identity = 0;
    std::string peer;
    std::string source;
    absl::Duration accepted;
    absl::Duration heard;   // when it was last seen that more has come
    uint64_t received = 0;  // bytes, when it was last looked at
    uint64_t number = 0;    // in the order in which they were accepted
  };
  // Two connections have the same peer when it connected to two addresses of this machine.
  struct Peer {
    int connections = 0;
    int calls = 0;
    bool called = false;         // had a call at some time
    absl::Duration quiet_since;  // without a call since then
    std::optional<absl::Duration> unanswered_since;
  };
  struct Newcomer {
    int fd = 0;
    uint64_t number = 0;
  };
  struct Source {
    std::unordered_set<int> connections;  // by descriptor
    absl::Duration counted = -absl::InfiniteDuration();
  };

  Peer& PeerAt(const std::string& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(int fd, const Connection& connection) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool SourceHasRoom(const std::string& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The connection that is shut down for one more newcomer is added to `ended`.
  bool NewcomersHaveRoom(std::vector<std::string>& ended) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ForgetFormerNewcomers() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether it is still there and never had a call.
  bool IsNew(const Newcomer& newcomer) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Of its connections. False: none was gone.
  bool ForgetWhatIsGone(const Source& source) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool IsScarce(const Connection& connection) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Which limit the connection has passed, if any.
  std::optional<Overdue> IsOverdue(int fd, Connection& connection, absl::Duration now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const base::Clock& clock_;
  const ConnectionLimits limits_;
  const std::function<void(Overdue, const std::string& peer)> ended_;
  base::Mutex mutex_;
  std::unordered_map<int, Connection> connections_ ABSL_GUARDED_BY(mutex_);  // by descriptor
  std::unordered_map<std::string, Peer> peers_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, Source> sources_ ABSL_GUARDED_BY(mutex_);
  // Those that came longest ago first; some may not be new any more.
  std::deque<Newcomer> newcomers_ ABSL_GUARDED_BY(mutex_);
  absl::Duration newcomers_counted_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  uint64_t accepted_ ABSL_GUARDED_BY(mutex_) = 0;
  absl::Duration looked_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
};

}  // namespace espalier::net
