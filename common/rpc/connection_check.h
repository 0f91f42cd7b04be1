// Why a connection does not come about. gRPC itself only says that a handshake failed.
#pragma once

#include <stop_token>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/rpc/channel.h"

namespace espalier::rpc {

// Enough for a handshake over a connection with 600 ms of delay in each direction.
constexpr absl::Duration kExplainLimit = absl::Seconds(6);

// What is behind a call that ended as Unavailable without an answer of the server. It connects to
// the server once more, for at most `limit` or until `stop` is requested (finding the addresses of
// a host name takes as long as the system's resolver does), and gives Unavailable with one of these
// reasons, which another attempt will meet again:
//   CONNECTION_REFUSED    nobody listens at any of the host's addresses
//   HOST_UNKNOWN          the host has no address
//   PROXY_FAILED          a variable of the environment sent the connection to a proxy
//   TLS_NOT_SPOKEN        TLS was wanted, and the server speaks none
//   TLS_EXPECTED          plain text was wanted, and the server speaks TLS
//   TLS_SERVER_REFUSED    the server's certificate is not valid for us: of another authority, of
//                         another time or for another host
//   TLS_CLIENT_REFUSED    the server wants a client certificate, or another one
// The message names files, dates and hosts. `status` itself when nothing of that was found.
// Threading: may be called from any thread; opens a connection of its own.
absl::Status ExplainFailure(const ChannelOptions& options, const absl::Status& status,
                            absl::Duration limit, const std::stop_token& stop);

}  // namespace espalier::rpc
