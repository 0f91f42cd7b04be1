#include "common/net/http_probe.h"

#include <fmt/format.h>
#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <string>

namespace espalier::net {
namespace {

constexpr timeval kTimeout{3, 0};

// The first bytes of the answer; "" when there is none.
std::string AnswerOf(const Address& address, const std::string& request) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  if (getaddrinfo(address.host.c_str(), address.port.c_str(), &hints, &found) != 0) return "";
  const int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof(kTimeout));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kTimeout, sizeof(kTimeout));
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

bool ServesHttp(Address address, std::string_view request) {
  if (address.host == "0.0.0.0") address.host = "127.0.0.1";
  if (address.host == "::") address.host = "::1";
  const std::string whole = fmt::format(
      "{} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", request, address.port);
  return AnswerOf(address, whole).find(" 200 ") != std::string::npos;
}

}  // namespace espalier::net
