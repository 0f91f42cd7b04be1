// Client side of every gRPC connection.
//
// Security:  TLS when `tls_ca_file` is set (server verified; client certificate when both cert and
// key
//            are set); plain text otherwise, which is meant for loopback.
// Errors:    InvalidArgument TLS_FILE_UNREADABLE when a PEM file cannot be read.
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
};

absl::StatusOr<std::shared_ptr<grpc::Channel>> MakeChannel(const ChannelOptions& options);

// Whole text of a PEM file.
absl::StatusOr<std::string> ReadPem(const std::string& path);

}  // namespace espalier::rpc
