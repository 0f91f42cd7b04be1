// Client side of every gRPC connection.
//
// Security:  TLS when `tls_ca_file` is set (server verified; client certificate when both cert and
//            key are set; a token goes with every call). Plain text otherwise, on this machine alone,
//            or where `insecure` says so; no token is sent then. A server on this machine is never
//            reached through a proxy, whatever the environment says.
// Time:      an attempt to connect takes at most 20 s, so that it also succeeds over connections
//            with much delay; calls have deadlines of their own. Where other servers stand in for
//            this one, an attempt takes at most 5 s, and a server that falls silent during a call is
//            given up after 8 s.
// Errors:    InvalidArgument INVALID_ADDRESS, TLS_PAIR_INCOMPLETE, PLAIN_TEXT_REFUSED,
//            TOKEN_WITHOUT_TLS, and those of tls.h.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace espalier::rpc {

struct ChannelOptions {
  std::string target;  // "host:port"
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  // What messages put in front of ca, cert and key: the program's flags for these files.
  std::string tls_flag_prefix = "--tls-";
  std::string tls_passphrase_file = {};  // of an encrypted key
  std::string token_file = {};           // a bearer token
  // Whether plain text may be spoken with another machine.
  bool insecure = false;
  // Whether there are other servers to go to when this one cannot be reached.
  bool one_of_several = false;
};

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ChannelOptions& options);

}  // namespace espalier::rpc
