// Server side of every gRPC connection: credentials, limits and keepalive of the coordinator's
// port.
//
// Limits:   receive limit stays at gRPC's 4 MiB; larger things are chunked. A connection must bring
//           its handshake and HTTP/2 settings within 10 s, is ended after 5 min without a call, and
//           when it does not answer a ping for 20 s, 60 s after the last sign of life. Connections
//           with a descriptor from `connections_below` on are refused (net/acceptor.h).
// Errors:   InvalidArgument PLAIN_TEXT_REFUSED, CLIENTS_UNKNOWN, INVALID_ADDRESS; Unavailable
//           PORT_IN_USE.
#pragma once

#include <grpcpp/server.h>
#include <grpcpp/server_context.h>

#include <climits>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/net/acceptor.h"
#include "common/net/connections.h"
#include "common/rpc/server_tls.h"

namespace espalier::rpc {

struct ServerOptions {
  std::string listen;  // "127.0.0.1:7070"; port 0 picks a free one
  // Borrowed, outlives the server. Null: plain text, which other machines are not served in unless
  // `insecure` says so; nor are they without an authority for clients.
  ServerTls* tls = nullptr;
  bool insecure = false;
  // Whether clients may ask for the protocol itself (gRPC's reflection service). Absent: only where
  // nobody but this machine can connect.
  std::optional<bool> reflection;
  int connections_below = INT_MAX;
  // Told of refused connections, see net::AcceptorOptions. May be empty.
  std::function<void(net::Refusal why, const std::string& peer)> on_refused;
  // Told of connections and of the calls on them. Borrowed, outlives the server; may be null.
  net::Connections* connections = nullptr;
};

struct RunningServer {
  std::unique_ptr<grpc::Server> server;
  std::string address;  // with the port that was bound
  // Taken down before the server is shut down, which does not close connections that come later.
  std::unique_ptr<net::Acceptor> acceptor;
};

// The peer of a call as net::AcceptorOptions has it: "1.2.3.4:5" or "[::1]:5".
std::string PeerOf(const grpc::ServerContextBase& call);

// Starts a server with the given services (borrowed; they must outlive it) and the standard health
// service, which reports SERVING.
absl::StatusOr<RunningServer> StartServer(const ServerOptions& options,
                                          const std::vector<grpc::Service*>& services);

}  // namespace espalier::rpc
