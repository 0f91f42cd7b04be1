// Translation of errors between absl::Status and grpc::Status. Code, message, reason
// (base::ReasonOf) and field violations survive the round trip.
//
// Threading: pure functions.
#pragma once

#include <grpcpp/support/status.h>

#include <vector>

#include "absl/status/status.h"
#include "espalier/v1/types.pb.h"

namespace espalier::rpc {

// Adds field violations to an error.
absl::Status WithViolations(const absl::Status& status,
                            const std::vector<v1::FieldViolation>& violations);
std::vector<v1::FieldViolation> ViolationsOf(const absl::Status& status);

grpc::Status ToGrpc(const absl::Status& status);
// A call that the server ended because its buffers are full is Unavailable COORDINATOR_BUSY, like a
// broken connection worth another attempt.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace espalier::rpc
