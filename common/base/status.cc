#include "common/base/status.h"

#include "absl/strings/cord.h"

namespace espalier::base {
namespace {

constexpr char kReasonUrl[] = "espalier/reason";

}  // namespace

absl::Status MakeError(absl::StatusCode code, std::string_view reason, std::string_view message) {
  absl::Status status(code, absl::string_view(message.data(), message.size()));
  if (!reason.empty()) {
    status.SetPayload(kReasonUrl, absl::Cord(absl::string_view(reason.data(), reason.size())));
  }
  return status;
}

std::string ReasonOf(const absl::Status& status) {
  auto payload = status.GetPayload(kReasonUrl);
  return payload.has_value() ? std::string(*payload) : std::string();
}

absl::Status Annotate(const absl::Status& status, std::string_view context) {
  if (status.ok()) return status;
  return MakeError(status.code(), ReasonOf(status),
                   std::string(context) + ": " + MessageOf(status));
}

}  // namespace espalier::base
