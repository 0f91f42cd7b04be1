// Asks a server's standard health service (grpc.health.v1) whether it is SERVING.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "common/rpc/channel.h"

namespace espalier::rpc {

// OK when the server answers SERVING within 3 s. A wildcard host (0.0.0.0, [::]) is asked on
// loopback. Errors: Unavailable NOT_SERVING; those of MakeChannel().
absl::Status CheckHealth(ChannelOptions options);

}  // namespace espalier::rpc
