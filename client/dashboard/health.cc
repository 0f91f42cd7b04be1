#include "client/dashboard/health.h"

#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "common/base/status.h"
#include "common/net/listener.h"
#include "fmt/format.h"

namespace espalier::dashboard {
namespace {

constexpr timeval kTimeout{2, 0};

// The first bytes of the answer; "" when there is none.
std::string AnswerOf(const net::Address& address) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found) != 0) return "";
  const int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof(kTimeout));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kTimeout, sizeof(kTimeout));
  const std::string request = fmt::format(
      "HEAD / HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", address.port);
  char answer[64];
  ssize_t size = 0;
  if (connect(fd, found->ai_addr, found->ai_addrlen) == 0 &&
      send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
    size = recv(fd, answer, sizeof(answer), MSG_WAITALL);
  }
  freeaddrinfo(found);
  close(fd);
  return size > 0 ? std::string(answer, static_cast<size_t>(size)) : "";
}

}  // namespace

absl::Status CheckServes(const std::string& listen) {
  ESPALIER_ASSIGN_OR_RETURN(net::Address address, net::ParseAddress(listen, "--listen"));
  if (address.host == "0.0.0.0") address.host = "127.0.0.1";
  if (address.host == "::") address.host = "::1";
  if (AnswerOf(address).find(" 200 ") != std::string::npos) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kUnavailable, "NOT_SERVING",
                         "expected a dashboard on " + listen + ", found none");
}

}  // namespace espalier::dashboard
