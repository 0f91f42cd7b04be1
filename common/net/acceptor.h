// Acceptor: takes connections from listening sockets on a thread of its own and hands them on.
//
// Limits:    a connection whose descriptor's number is at or above `below` is closed at once
//            (descriptors.h), so that connections never take the last descriptors.
// Exhausted: when the process or the machine has no descriptor or memory left for a connection, the
//            acceptor tries again every 100 ms until it has. It never stops listening.
// Itself:    the process may connect to its own sockets, to see whether it is heard. That connection
//            is taken whatever the limits say, so that a flood cannot hide a healthy process.
// Threading: `refuses`, `accepted` and `refused` are called on the acceptor's thread, which the
//            destructor joins. They must not wait.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/net/listener.h"

namespace espalier::net {

// Why a connection was not taken. kLimit: there are too many; kSource: its source has too many. It
// was closed. kExhausted: the process or the machine had nothing left for it, and it waits in the
// kernel.
enum class Refusal { kLimit, kSource, kExhausted };

struct AcceptorOptions {
  int below = 0;
  // A new connection: non-blocking, without Nagle's delay. The callee owns `fd`. `peer` is
  // "1.2.3.4:5" or "[::1]:5"; an IPv4 address that came through an IPv6 socket is an IPv4 address.
  std::function<void(int listener, int fd, const std::string& peer)> accepted;
  // `peer` is "" when it is not known.
  std::function<void(Refusal why, const std::string& peer)> refused;
  // Why a connection of `peer` is not to be taken; nothing: it is. May be empty: all are.
  std::function<std::optional<Refusal>(const std::string& peer)> refuses = nullptr;
};

class Acceptor {
 public:
  Acceptor(Listener listener, AcceptorOptions options);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

  int sockets() const { return static_cast<int>(listener_.sockets().size()); }
  // A connection to the socket of that index, see within.h. To be called by one thread.
  absl::StatusOr<int> ConnectToItself(int index, absl::Duration timeout);

 private:
  void Run();
  // Takes what waits, a few at a time. False: nothing was left to take one with.
  bool AcceptFrom(int listener);
  std::optional<Refusal> Refuses(int fd, const std::string& peer);

  Listener listener_;
  const AcceptorOptions options_;
  int wake_ = -1;  // an eventfd; readable: stop
  base::Mutex mutex_;
  std::string itself_ ABSL_GUARDED_BY(mutex_);  // the peer of the last connection to itself
  std::thread thread_;
};

}  // namespace espalier::net
