#include <netdb.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/metrics/metrics.h"

namespace espalier::metrics {
namespace {

constexpr timeval kTimeout{3, 0};

// First bytes of the answer to GET /metrics; "" when nobody answers.
std::string AnswerOf(const std::string& host, const std::string& port) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* address = nullptr;
  if (getaddrinfo(host.c_str(), port.c_str(), &hints, &address) != 0) return "";
  const int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, 0);
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &kTimeout, sizeof(kTimeout));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &kTimeout, sizeof(kTimeout));
  const std::string request = "GET /metrics HTTP/1.0\r\nHost: " + host + "\r\n\r\n";
  char answer[64];
  ssize_t size = 0;
  if (connect(fd, address->ai_addr, address->ai_addrlen) == 0 &&
      send(fd, request.data(), request.size(), MSG_NOSIGNAL) > 0) {
    size = recv(fd, answer, sizeof(answer), MSG_WAITALL);
  }
  freeaddrinfo(address);
  close(fd);
  return size > 0 ? std::string(answer, size) : "";
}

}  // namespace

absl::Status CheckServes(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  std::string host = listen.substr(0, colon);
  if (host == "0.0.0.0") host = "127.0.0.1";
  const std::string answer = AnswerOf(host, listen.substr(colon + 1));
  if (answer.find(" 200 ") != std::string::npos) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kUnavailable, "NOT_SERVING",
                         "expected a process that serves /metrics on " + listen + ", found none");
}

}  // namespace espalier::metrics
