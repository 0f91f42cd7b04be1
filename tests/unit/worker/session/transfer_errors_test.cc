#include "worker/session/transfer_errors.h"

#include <gtest/gtest.h>

#include <vector>

#include "common/base/status.h"

namespace espalier::worker::session {
namespace {

using absl::StatusCode;

absl::Status Said(StatusCode code, const char* reason) {
  return base::MakeError(code, reason, "message");
}

TEST(FaultOfTest, EveryErrorIsDamageOrABrokenCallOrAnAnswer) {
  struct Case {
    absl::Status status;
    Fault fault;
  };
  const std::vector<Case> cases = {
      {absl::OkStatus(), Fault::kNone},
      // What the assembler of a blob says, on either side.
      {Said(StatusCode::kDataLoss, "CHUNK_CORRUPT"), Fault::kDamaged},
      {Said(StatusCode::kInvalidArgument, "CHUNK_OUT_OF_ORDER"), Fault::kDamaged},
      {Said(StatusCode::kInvalidArgument, "BLOB_SIZE_MISMATCH"), Fault::kDamaged},
      {Said(StatusCode::kDataLoss, "BLOB_DIGEST_MISMATCH"), Fault::kDamaged},
      {Said(StatusCode::kInvalidArgument, "HEADER_MISSING"), Fault::kDamaged},
      // What the coordinator says of a header or request that has no checksum.
      {Said(StatusCode::kAborted, "LEASE_EXPIRED"), Fault::kDoubtful},
      {Said(StatusCode::kAborted, "ROUND_CLOSED"), Fault::kDoubtful},
      {Said(StatusCode::kInvalidArgument, "SHAPE_MISMATCH"), Fault::kDoubtful},
      {Said(StatusCode::kInvalidArgument, "TOPOLOGY_VERSION_MISMATCH"), Fault::kDoubtful},
      {Said(StatusCode::kInvalidArgument, "NO_EXAMPLES"), Fault::kDoubtful},
      {Said(StatusCode::kNotFound, "BLOB_NOT_FOUND"), Fault::kDoubtful},
      // What it says of a body whose digest was right.
      {Said(StatusCode::kInvalidArgument, "NON_FINITE"), Fault::kNone},
      {Said(StatusCode::kInvalidArgument, "VALUE_OUT_OF_RANGE"), Fault::kNone},
      {Said(StatusCode::kResourceExhausted, "AGGREGATION_TOO_LARGE"), Fault::kNone},
      {Said(StatusCode::kUnavailable, "COORDINATOR_BUSY"), Fault::kBroken},
      // What gRPC makes of broken connections, frames and messages.
      {absl::UnavailableError("connection reset"), Fault::kBroken},
      {absl::InternalError("RST_STREAM with error code 1"), Fault::kBroken},
      {absl::UnknownError("stream removed"), Fault::kBroken},
      {absl::UnimplementedError("no such method"), Fault::kBroken},
      {absl::ResourceExhaustedError("larger than max"), Fault::kBroken},
      {absl::DeadlineExceededError("deadline"), Fault::kBroken},
      {absl::CancelledError("RST_STREAM with error code 8"), Fault::kBroken},
      // Nothing that another attempt would change.
      {absl::UnauthenticatedError(""), Fault::kNone},
      {absl::PermissionDeniedError(""), Fault::kNone},
  };
  for (const Case& one : cases) {
    EXPECT_EQ(FaultOf(one.status), one.fault) << one.status;
  }
}

TEST(RepeatsTest, EachKindHasItsLimitInARow) {
  const auto repeats_of = [](Fault fault) {
    Repeats repeats;
    int count = 0;
    while (repeats.Count(fault) > 0) ++count;
    return count;
  };
  EXPECT_EQ(repeats_of(Fault::kBroken), 5);
  EXPECT_EQ(repeats_of(Fault::kDamaged), 3);
  EXPECT_EQ(repeats_of(Fault::kDoubtful), 1);
  EXPECT_EQ(repeats_of(Fault::kNone), 0);
}

TEST(RepeatsTest, ProgressForgetsWhatWasBefore) {
  Repeats repeats;
  for (int i = 1; i <= 3; ++i) EXPECT_EQ(repeats.Count(Fault::kDamaged), i);
  EXPECT_EQ(repeats.Count(Fault::kDamaged), 0);
  repeats.Progress();
  EXPECT_EQ(repeats.Count(Fault::kDamaged), 1);
}

}  // namespace
}  // namespace espalier::worker::session
