// Server side of every gRPC connection: credentials, limits and keepalive of the coordinator's
// port.
//
// Limits:   receive limit stays at gRPC's 4 MiB; larger things are chunked.
// Errors:   InvalidArgument TLS_CONFIG_INVALID, INVALID_ADDRESS and those of tls.h; Unavailable
// PORT_IN_USE.
#pragma once

#include <grpcpp/server.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::rpc {

struct ServerOptions {
  std::string listen;  // "127.0.0.1:7070"; port 0 picks a free one
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_client_ca_file;  // set: clients must present a certificate signed by it
  bool reflection = false;
};

struct RunningServer {
  std::unique_ptr<grpc::Server> server;
  std::string address;  // with the port that was bound
};

// Starts a server with the given services (borrowed; they must outlive it) and the standard health
// service, which reports SERVING.
absl::StatusOr<RunningServer> StartServer(const ServerOptions& options,
                                          const std::vector<grpc::Service*>& services);

}  // namespace espalier::rpc
