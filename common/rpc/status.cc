#include "common/rpc/status.h"

#include <string>

#include "absl/strings/cord.h"
#include "common/base/status.h"

namespace espalier::rpc {
namespace {

constexpr char kViolationsUrl[] = "espalier/violations";

// Whether the server's transport ended the call because its buffers are full (ENHANCE_YOUR_CALM):
// gRPC does not tell it apart from other exhausted resources but by these words.
bool IsFullBuffers(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
         status.error_details().empty() &&
         status.error_message().find("RST_STREAM") != std::string::npos;
}

}  // namespace

absl::Status WithViolations(const absl::Status& status,
                            const std::vector<v1::FieldViolation>& violations) {
  v1::ErrorDetail detail;
  for (const auto& violation : violations) *detail.add_field_violations() = violation;
  absl::Status result = status;
  result.SetPayload(kViolationsUrl, absl::Cord(detail.SerializeAsString()));
  return result;
}

std::vector<v1::FieldViolation> ViolationsOf(const absl::Status& status) {
  const auto payload = status.GetPayload(kViolationsUrl);
  v1::ErrorDetail detail;
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return {};
  return {detail.field_violations().begin(), detail.field_violations().end()};
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  v1::ErrorDetail detail;
  detail.set_reason(base::ReasonOf(status));
  for (const auto& violation : ViolationsOf(status)) *detail.add_field_violations() = violation;
  v1::RpcStatus full;
  full.set_code(static_cast<int>(status.code()));
  full.set_message(base::MessageOf(status));
  full.add_details()->PackFrom(detail);
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), full.message(),
                      full.SerializeAsString());
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (IsFullBuffers(status)) {
    return base::MakeError(absl::StatusCode::kUnavailable, "COORDINATOR_BUSY",
                           "the coordinator's buffers are full, and it ended the call (" +
                               status.error_message() + "); try again later");
  }
  v1::RpcStatus full;
  v1::ErrorDetail detail;
  if (full.ParseFromString(status.error_details()) && full.details_size() > 0) {
    full.details(0).UnpackTo(&detail);
  }
  absl::Status result = base::MakeError(static_cast<absl::StatusCode>(status.error_code()),
                                        detail.reason(), status.error_message());
  if (detail.field_violations_size() == 0) return result;
  return WithViolations(result,
                        {detail.field_violations().begin(), detail.field_violations().end()});
}

}  // namespace espalier::rpc
