#include "common/rpc/status.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "absl/strings/cord.h"
#include "common/base/limits.h"
#include "common/base/printable.h"
#include "common/base/status.h"

namespace espalier::rpc {
namespace {

constexpr char kViolationsUrl[] = "espalier/violations";
constexpr size_t kMaxReasonBytes = 100;
constexpr size_t kMaxMessageBytes = 2048;
constexpr size_t kMaxFieldBytes = 256;
constexpr size_t kMaxDescriptionBytes = 512;
// What protobuf adds around one violation, and around all of them.
constexpr size_t kViolationOverheadBytes = 4;
constexpr size_t kDetailOverheadBytes = 100;

// Whether the server's transport ended the call because its buffers are full (ENHANCE_YOUR_CALM):
// gRPC does not tell it apart from other exhausted resources but by these words.
bool IsFullBuffers(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED &&
         status.error_details().empty() &&
         status.error_message().find("RST_STREAM") != std::string::npos;
}

v1::ErrorDetail DetailOf(const absl::Status& status) {
  v1::ErrorDetail detail;
  const auto payload = status.GetPayload(kViolationsUrl);
  if (!payload.has_value() || !detail.ParseFromString(std::string(*payload))) return {};
  return detail;
}

// Bytes of "grpc-message", in which all but printable ASCII becomes %XX.
size_t PercentEncodedBytes(std::string_view text) {
  size_t bytes = 0;
  for (const char c : text) bytes += c >= 0x20 && c <= 0x7E && c != '%' ? 1 : 3;
  return bytes;
}

size_t Base64Bytes(size_t bytes) { return (bytes + 2) / 3 * 4; }

// The longest front of `text` that takes at most `max_bytes` when it is percent-encoded.
std::string FittingMessage(std::string_view text, size_t max_bytes) {
  std::string message = base::PrintablePrefix(text, max_bytes);
  for (size_t bytes = max_bytes; PercentEncodedBytes(message) > max_bytes;) {
    bytes = bytes * 3 / 4;
    message = base::PrintablePrefix(text, bytes);
  }
  return message;
}

// Takes violations over as long as the status stays within the limit, and counts the rest.
void AddViolations(const v1::ErrorDetail& found, const std::string& message,
                   v1::ErrorDetail& detail) {
  size_t bytes = kDetailOverheadBytes + detail.reason().size() + message.size();
  const size_t limit = base::kMaxStatusBytes - PercentEncodedBytes(message);
  for (const v1::FieldViolation& violation : found.field_violations()) {
    v1::FieldViolation shown;
    shown.set_field(base::PrintablePrefix(violation.field(), kMaxFieldBytes));
    shown.set_description(base::PrintablePrefix(violation.description(), kMaxDescriptionBytes));
    bytes += shown.ByteSizeLong() + kViolationOverheadBytes;
    if (Base64Bytes(bytes) > limit) break;
    *detail.add_field_violations() = std::move(shown);
  }
  detail.set_field_violations_left_out(found.field_violations_left_out() +
                                       found.field_violations_size() -
                                       detail.field_violations_size());
}

}  // namespace

absl::Status WithViolations(const absl::Status& status,
                            const std::vector<v1::FieldViolation>& violations, int left_out) {
  v1::ErrorDetail detail;
  for (const auto& violation : violations) *detail.add_field_violations() = violation;
  detail.set_field_violations_left_out(left_out);
  absl::Status result = status;
  result.SetPayload(kViolationsUrl, absl::Cord(detail.SerializeAsString()));
  return result;
}

std::vector<v1::FieldViolation> ViolationsOf(const absl::Status& status) {
  const v1::ErrorDetail detail = DetailOf(status);
  return {detail.field_violations().begin(), detail.field_violations().end()};
}

int ViolationsLeftOut(const absl::Status& status) {
  return DetailOf(status).field_violations_left_out();
}

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const std::string message = FittingMessage(base::MessageOf(status), kMaxMessageBytes);
  v1::ErrorDetail detail;
  detail.set_reason(base::PrintablePrefix(base::ReasonOf(status), kMaxReasonBytes));
  AddViolations(DetailOf(status), message, detail);
  v1::RpcStatus full;
  full.set_code(static_cast<int>(status.code()));
  full.set_message(message);
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
                        {detail.field_violations().begin(), detail.field_violations().end()},
                        detail.field_violations_left_out());
}

}  // namespace espalier::rpc
