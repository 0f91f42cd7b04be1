// TLS handshakes that fail on the server's side, of which gRPC tells nothing but a line of its log.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace espalier::rpc {

// Certificates that are refused are the client's, "server_refused" is what the client says.
constexpr const char* kHandshakeFailureKinds[] = {"certificate_out_of_date", "certificate_refused",
                                                  "server_refused", "not_tls", "other"};

struct HandshakeFailure {
  const char* kind;     // one of kHandshakeFailureKinds
  std::string message;  // what was wrong and what to do, for people
};

// What a line of gRPC's log says of a failed handshake; nothing when it is about something else.
// `verify_error` is the result of the last check of a certificate on this thread, an X509_V_ERR_…
// of OpenSSL.
std::optional<HandshakeFailure> FailureIn(std::string_view line, int verify_error);

// From now on tells `failed` of each failed handshake, and writes gRPC's other errors to the log as
// `grpc` at level debug; where GRPC_VERBOSITY was set for the process, at their own level. For the
// whole process, once, after PrepareProcess().
//
// Threading: `failed` is called on gRPC's threads, by several at once. It must not wait.
void TellOfFailedHandshakes(std::function<void(const HandshakeFailure&)> failed);

}  // namespace espalier::rpc
