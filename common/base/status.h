// Status helpers shared by all of Espalier.
//
// Errors are absl::Status; the code equals gRPC's code. A message says what was expected, what was
// found and what to do. A machine-readable reason such as TOPOLOGY_VERSION_MISMATCH travels beside
// the message as a payload (ReasonOf), so that clients and metrics need not parse text.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace espalier::base {

// Builds an error. `reason` is UPPER_SNAKE_CASE and stable; `message` is for people.
absl::Status MakeError(absl::StatusCode code, std::string_view reason, std::string_view message);

inline absl::Status InvalidArgument(std::string_view reason, std::string_view message) {
  return MakeError(absl::StatusCode::kInvalidArgument, reason, message);
}
inline absl::Status FailedPrecondition(std::string_view reason, std::string_view message) {
  return MakeError(absl::StatusCode::kFailedPrecondition, reason, message);
}
inline absl::Status NotFound(std::string_view reason, std::string_view message) {
  return MakeError(absl::StatusCode::kNotFound, reason, message);
}

// The reason given to MakeError, or "" when there is none.
std::string ReasonOf(const absl::Status& status);

// The message as std::string (absl::string_view is not std::string_view in Debian's Abseil).
inline std::string MessageOf(const absl::Status& status) {
  return std::string(status.message().data(), status.message().size());
}

// The same error with `context` and ": " in front of its message; code and reason are kept.
absl::Status Annotate(const absl::Status& status, std::string_view context);

}  // namespace espalier::base

#define ESPALIER_CONCAT_INNER_(a, b) a##b
#define ESPALIER_CONCAT_(a, b) ESPALIER_CONCAT_INNER_(a, b)

#define ESPALIER_RETURN_IF_ERROR(expr)                                      \
  do {                                                                      \
    if (::absl::Status espalier_status_ = (expr); !espalier_status_.ok()) { \
      return espalier_status_;                                              \
    }                                                                       \
  } while (false)

#define ESPALIER_ASSIGN_OR_RETURN(lhs, expr) \
  ESPALIER_ASSIGN_OR_RETURN_IMPL_(ESPALIER_CONCAT_(espalier_statusor_, __LINE__), lhs, expr)
#define ESPALIER_ASSIGN_OR_RETURN_IMPL_(statusor, lhs, expr) \
  auto statusor = (expr);                                    \
  if (!statusor.ok()) return std::move(statusor).status();   \
  lhs = std::move(statusor).value()
