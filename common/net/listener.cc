#include "common/net/listener.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::net {
namespace {

constexpr int kMaxPort = 65535;

absl::Status CannotListen(const std::string& address, const std::string& flag,
                          std::string_view found) {
  return base::MakeError(
      absl::StatusCode::kUnavailable, "PORT_IN_USE",
      fmt::format("expected to listen on {}, found the address in use or not ours ({}); choose "
                  "another with {} or stop the process that holds it",
                  address, found, flag));
}

void SetPort(sockaddr* address, uint16_t port) {
  if (address->sa_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6*>(address)->sin6_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in*>(address)->sin_port = htons(port);
  }
}

uint16_t PortOf(int socket) {
  sockaddr_storage bound{};
  socklen_t size = sizeof(bound);
  if (getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) != 0) return 0;
  return ntohs(bound.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6*>(&bound)->sin6_port
                                           : reinterpret_cast<sockaddr_in*>(&bound)->sin_port);
}

// A listening socket, or -1 with errno.
int ListenOn(const addrinfo& address) {
  const int fd = socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  const int on = 1;
  const int off = 0;
  // A restarted process must not wait for the connections of its predecessor to be forgotten.
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  if (address.ai_family == AF_INET6) {
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
  }
  if (bind(fd, address.ai_addr, address.ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

}  // namespace

std::optional<Address> SplitAddress(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view port = text.substr(colon + 1);
  const bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (bracketed) host = host.substr(1, host.size() - 2);
  int number = -1;
  const bool digits = port.find_first_not_of("0123456789") == std::string_view::npos;
  if (!digits || !absl::SimpleAtoi(std::string(port), &number) || number > kMaxPort) {
    return std::nullopt;
  }
  if (host.empty() || (!bracketed && host.find_first_of(":/[]") != std::string_view::npos)) {
    return std::nullopt;
  }
  return Address{std::string(host), std::string(port)};
}

absl::StatusOr<Address> ParseAddress(const std::string& text, const std::string& flag) {
  if (std::optional<Address> address = SplitAddress(text)) return *std::move(address);
  return base::InvalidArgument(
      "INVALID_ADDRESS",
      fmt::format(
          "expected {} HOST:PORT with a port from 0 to 65535 (an IPv6 address in brackets), "
          "found '{}'",
          flag, text));
}

absl::StatusOr<Listener> Listener::Open(const std::string& address, const std::string& flag) {
  ESPALIER_ASSIGN_OR_RETURN(const Address parsed, ParseAddress(address, flag));
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* first = nullptr;
  const int failed = getaddrinfo(parsed.host.c_str(), parsed.port.c_str(), &hints, &first);
  if (failed != 0) return CannotListen(address, flag, gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> addresses(first, &freeaddrinfo);

  Listener listener;
  uint16_t port = 0;
  int error = 0;
  for (const addrinfo* one = first; one != nullptr; one = one->ai_next) {
    if (port != 0) SetPort(one->ai_addr, port);
    const int fd = ListenOn(*one);
    if (fd >= 0) {
      listener.sockets_.push_back(fd);
      port = PortOf(fd);
      continue;
    }
    error = errno;
    // A port that another process has on one of the addresses would answer for us there.
    if (error == EADDRINUSE) return CannotListen(address, flag, strerror(error));
  }
  if (listener.sockets_.empty()) return CannotListen(address, flag, strerror(error));
  listener.address_ = fmt::format("{}:{}", address.substr(0, address.rfind(':')), port);
  return listener;
}

Listener::Listener(Listener&& other) noexcept
    : sockets_(std::exchange(other.sockets_, {})), address_(std::move(other.address_)) {}

Listener::~Listener() {
  for (const int fd : sockets_) close(fd);
}

}  // namespace espalier::net
