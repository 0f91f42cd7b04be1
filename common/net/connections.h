// Connections: ends accepted connections on which bytes come in but no call comes of them.
//
// A server hears of a call when its headers, and the request of a call that has only one, are
// whole. A peer that sends them byte by byte would keep its connection for ever, since a call that
// is half there counts as a call for gRPC. Here it counts once it has begun.
//
// Limits:    on a connection without a call, bytes that come later than `kSettle` after it was
//            accepted, or after its last call ended, are the start of a call, which must have begun
//            within `limit` from there. Otherwise the connection is shut down. Connections on which
//            nothing comes are none of its business.
// Identity:  a descriptor's number may be another file's by now. It is compared by the file's inode
//            before it is looked at, and held by a duplicate while it is shut down.
// Cost:      two system calls a second for each connection without a call; no descriptors.
// Threading: thread-safe. `ended` is called by Expire(), without a lock held.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/mutex.h"

namespace espalier::net {

class Connections {
 public:
  // For a handshake, and for what a client still sends when its call has ended.
  static constexpr absl::Duration kSettle = absl::Seconds(10);

  // `ended` is told the peer of each connection that was shut down.
  Connections(const base::Clock& clock, absl::Duration limit,
              std::function<void(const std::string& peer)> ended);

  // A connection that is about to be handed on. `peer` is as net::AcceptorOptions gives it.
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
    uint64_t received = 0;  // bytes, when it was last looked at
  };
  // Two connections have the same peer when it connected to two addresses of this machine.
  struct Peer {
    int connections = 0;
    int calls = 0;
    absl::Duration quiet_since;  // without a call since then
    std::optional<absl::Duration> unanswered_since;
  };

  Peer& PeerAt(const std::string& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Forget(const std::string& peer) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the connection has passed the limit.
  bool IsOverdue(int fd, Connection& connection, absl::Duration now)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const base::Clock& clock_;
  const absl::Duration limit_;
  const std::function<void(const std::string& peer)> ended_;
  base::Mutex mutex_;
  std::unordered_map<int, Connection> connections_ ABSL_GUARDED_BY(mutex_);  // by descriptor
  std::unordered_map<std::string, Peer> peers_ ABSL_GUARDED_BY(mutex_);
  absl::Duration looked_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
};

}  // namespace espalier::net
