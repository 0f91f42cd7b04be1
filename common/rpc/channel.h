// Client side of every gRPC connection.
//
// Security:  TLS when `tls_ca_file` is set (server verified; client certificate when both cert and
//            key are set); plain text otherwise, which is meant for loopback. A server on this
//            machine is never reached through a proxy, whatever the environment says.
// Time:      an attempt to connect takes at most 20 s, so that it also succeeds over connections
//            with much delay; calls have deadlines of their own. Where other servers stand in for
//            this one, an attempt takes at most 5 s, and a server that falls silent during a call is
//            given up after 8 s.
// Errors:    InvalidArgument INVALID_ADDRESS, TLS_PAIR_INCOMPLETE, and those of tls.h.
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
  // Whether there are other servers to go to when this one cannot be reached.
  bool one_of_several = false;
};

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ChannelOptions& options);

}  // namespace espalier::rpc
