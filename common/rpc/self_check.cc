#include "common/rpc/self_check.h"

#include <grpcpp/channel.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/rpc/health.h"
#include "common/rpc/tls.h"

namespace espalier::rpc {
namespace {

// What a client begins HTTP/2 with: the preface, and settings that are all as they were.
constexpr std::string_view kPreface("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);

absl::Status NotHeard(std::string_view found) {
  return base::MakeError(
      absl::StatusCode::kUnavailable, "NOT_HEARD",
      "expected an answer to a connection to this process's own address, found " +
          std::string(found));
}

// What a client begins a TLS handshake with.
std::string ClientHello() {
  const OpenSsl<SSL_CTX, SSL_CTX_free> context(SSL_CTX_new(TLS_client_method()));
  constexpr unsigned char kHttp2[] = "\x02h2";
  SSL_CTX_set_alpn_protos(context.get(), kHttp2, sizeof(kHttp2) - 1);
  const OpenSsl<SSL, SSL_free> ssl(SSL_new(context.get()));
  BIO* const out = BIO_new(BIO_s_mem());
  SSL_set_bio(ssl.get(), BIO_new(BIO_s_mem()), out);  // takes both
  SSL_set_connect_state(ssl.get());
  SSL_do_handshake(ssl.get());
  ERR_clear_error();
  char* bytes = nullptr;
  const auto size = static_cast<size_t>(BIO_get_mem_data(out, &bytes));
  return {bytes, size};
}

absl::Status Greet(int fd, std::string_view greeting, absl::Duration timeout) {
  // A new connection has room for so little.
  if (send(fd, greeting.data(), greeting.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(greeting.size())) {
    return NotHeard("that it ended at once");
  }
  pollfd wait{fd, POLLIN, 0};
  if (poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(timeout))) <= 0) {
    return NotHeard("none in time");
  }
  char byte = 0;
  return recv(fd, &byte, 1, 0) == 1 ? absl::OkStatus() : NotHeard("that it was ended");
}

}  // namespace

absl::Status CheckAnswers(const RunningServer& running, bool tls, absl::Duration timeout) {
  const auto begin = std::chrono::steady_clock::now();
  const auto left = [begin, timeout] {
    const auto passed = absl::FromChrono(std::chrono::steady_clock::now() - begin);
    return std::max(timeout - passed, absl::ZeroDuration());
  };
  const std::string greeting = tls ? ClientHello() : std::string(kPreface);
  for (int i = 0; i < running.acceptor->sockets(); ++i) {
    ESPALIER_ASSIGN_OR_RETURN(const int fd, running.acceptor->ConnectToItself(i, left()));
    const absl::Status heard = Greet(fd, greeting, left());
    close(fd);
    ESPALIER_RETURN_IF_ERROR(heard);
  }
  if (IsAnswered(running.server->InProcessChannel({}), left())) return absl::OkStatus();
  return NotHeard("that a call within the process got none in time");
}

}  // namespace espalier::rpc
