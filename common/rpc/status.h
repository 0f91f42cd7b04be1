// Translation of errors between absl::Status and grpc::Status. Code, message, reason
// (base::ReasonOf) and field violations survive the round trip.
//
// Limits: a status travels in the metadata of its call, of which receivers take 8 KiB. What
// ToGrpc() makes takes at most base::kMaxStatusBytes of it as transmitted: a longer message is cut,
// and violations that do not fit are counted. All text in it is printable (base::Printable).
// Threading: pure functions.
#pragma once

#include <grpcpp/support/status.h>

#include <vector>

#include "absl/status/status.h"
#include "espalier/v1/types.pb.h"

namespace espalier::rpc {

// Adds field violations to an error; `left_out` more were found that are not among them.
absl::Status WithViolations(const absl::Status& status,
                            const std::vector<v1::FieldViolation>& violations, int left_out = 0);
std::vector<v1::FieldViolation> ViolationsOf(const absl::Status& status);
int ViolationsLeftOut(const absl::Status& status);

grpc::Status ToGrpc(const absl::Status& status);
// A call that the server ended because its buffers are full is Unavailable COORDINATOR_BUSY, like a
// broken connection worth another attempt.
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace espalier::rpc
