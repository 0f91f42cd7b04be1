// Asks a server's standard health service (grpc.health.v1) whether it is SERVING.
#pragma once

#include <grpcpp/channel.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/rpc/channel.h"

namespace espalier::rpc {

// OK when the server answers SERVING within 3 s. A wildcard host (0.0.0.0, [::]) is asked on
// loopback. Errors: Unavailable NOT_SERVING; those of MakeChannel().
absl::Status CheckHealth(ChannelOptions options);

// Whether a server answers that question within `timeout`, whatever it says.
bool IsAnswered(const std::shared_ptr<grpc::Channel>& channel, absl::Duration timeout);

}  // namespace espalier::rpc
