// Acceptor: takes connections from listening sockets on a thread of its own and hands them on.
//
// Limits:    a connection whose descriptor's number is at or above `below` is closed at once
//            (descriptors.h), so that connections never take the last descriptors.
// Exhausted: when the process or the machine has no descriptor or memory left for a connection, the
//            acceptor tries again every 100 ms until it has. It never stops listening.
// Threading: `accepted` and `refused` are called on the acceptor's thread, which the destructor
//            joins. They must not wait.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "common/net/listener.h"

namespace espalier::net {

struct AcceptorOptions {
  int below = 0;
  // A new connection: non-blocking, without Nagle's delay. The callee owns `fd`. `peer` is
  // "1.2.3.4:5" or "[::1]:5"; an IPv4 address that came through an IPv6 socket is an IPv4 address.
  std::function<void(int listener, int fd, const std::string& peer)> accepted;
  // `at_limit`: the connection was closed. Otherwise the process or the machine had nothing left
  // for it, and it waits in the kernel. `peer` is "" when it is not known.
  std::function<void(bool at_limit, const std::string& peer)> refused;
};

class Acceptor {
 public:
  Acceptor(Listener listener, AcceptorOptions options);
  ~Acceptor();
  Acceptor(const Acceptor&) = delete;
  Acceptor& operator=(const Acceptor&) = delete;

 private:
  void Run();
  // Takes what waits, a few at a time. False: nothing was left to take one with.
  bool AcceptFrom(int listener);

  Listener listener_;
  const AcceptorOptions options_;
  int wake_ = -1;  // an eventfd; readable: stop
  std::thread thread_;
};

}  // namespace espalier::net
