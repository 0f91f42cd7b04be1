#include "common/net/within.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/base/status.h"
#include "common/net/source.h"
#include "fmt/format.h"

namespace espalier::net {
namespace {

in_port_t& PortIn(sockaddr_storage& address) {
  return address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                       : reinterpret_cast<sockaddr_in&>(address).sin_port;
}

// Who listens to all addresses is reached by loopback.
void BecomeOne(sockaddr_storage& address) {
  if (address.ss_family == AF_INET6) {
    auto& host = reinterpret_cast<sockaddr_in6&>(address).sin6_addr;
    if (IN6_IS_ADDR_UNSPECIFIED(&host)) host = in6addr_loopback;
  } else {
    auto& host = reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr;
    if (host == htonl(INADDR_ANY)) host = htonl(INADDR_LOOPBACK);
  }
}

absl::Status NotHeard(const char* what, int error) {
  return base::MakeError(
      absl::StatusCode::kUnavailable, "NOT_HEARD",
      fmt::format(
          "expected a connection to this process's own address, found that it cannot {}: {}", what,
          strerror(error)));
}

// Connects `fd`, which is bound to its own port.
absl::Status Connect(int fd, const sockaddr_storage& to, socklen_t size, absl::Duration timeout) {
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), size) == 0) return absl::OkStatus();
  if (errno != EINPROGRESS) return NotHeard("connect", errno);
  pollfd wait{fd, POLLOUT, 0};
  if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) <= 0) {
    return NotHeard("connect in time", ETIMEDOUT);
  }
  int error = 0;
  socklen_t bytes = sizeof(error);
  getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &bytes);
  return error == 0 ? absl::OkStatus() : NotHeard("connect", error);
}

}  // namespace

absl::StatusOr<int> ConnectWithin(int listening, absl::Duration timeout,
                                  const std::function<void(const std::string& peer)>& bound) {
  sockaddr_storage to{};
  socklen_t size = sizeof(to);
  if (getsockname(listening, reinterpret_cast<sockaddr*>(&to), &size) != 0) {
    return NotHeard("see where it listens", errno);
  }
  BecomeOne(to);
  sockaddr_storage from = to;
  PortIn(from) = 0;
  const int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return NotHeard("open a socket", errno);
  auto* const own = reinterpret_cast<sockaddr*>(&from);
  absl::Status done;
  if (bind(fd, own, size) == 0 && getsockname(fd, own, &size) == 0) {
    bound(PeerText(from));
    done = Connect(fd, to, size, timeout);
  } else {
    done = NotHeard("take a port", errno);
  }
  if (done.ok()) return fd;
  close(fd);
  return done;
}

}  // namespace espalier::net
