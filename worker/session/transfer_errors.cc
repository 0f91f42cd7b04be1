#include "worker/session/transfer_errors.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "common/base/status.h"

namespace espalier::worker::session {
namespace {

// About 6 s of attempts with waits of 0.2 s, 0.4 s, …
constexpr int kBrokenInARow = 5;
constexpr int kDamagedInARow = 3;
constexpr int kDoubtfulInARow = 1;

// The worker knows what it sends, and what a blob must be: these mean damage and nothing else.
constexpr std::array<std::string_view, 5> kDamageReasons = {
    "CHUNK_CORRUPT", "CHUNK_OUT_OF_ORDER", "BLOB_SIZE_MISMATCH", "BLOB_DIGEST_MISMATCH",
    "HEADER_MISSING"};

// Answers that a changed header or request gets as well as one that is late or wrong.
constexpr std::array<std::string_view, 6> kDoubtfulReasons = {
    "LEASE_EXPIRED",  "ROUND_CLOSED", "TOPOLOGY_VERSION_MISMATCH",
    "SHAPE_MISMATCH", "NO_EXAMPLES",  "BLOB_NOT_FOUND"};

template <size_t N>
bool Contains(const std::array<std::string_view, N>& reasons, std::string_view reason) {
  return std::find(reasons.begin(), reasons.end(), reason) != reasons.end();
}

// Codes with which gRPC itself ends a call whose connection broke, or whose frames, lengths, names
// or messages it could not read.
bool IsOfTheTransport(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kInternal:
    case absl::StatusCode::kUnknown:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kCancelled:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kDataLoss:
      return true;
    default:
      return false;
  }
}

}  // namespace

Fault FaultOf(const absl::Status& status) {
  if (status.ok()) return Fault::kNone;
  if (status.code() == absl::StatusCode::kUnavailable) return Fault::kBroken;
  const std::string reason = base::ReasonOf(status);
  // What the coordinator says has a reason.
  if (reason.empty()) return IsOfTheTransport(status.code()) ? Fault::kBroken : Fault::kNone;
  if (Contains(kDamageReasons, reason)) return Fault::kDamaged;
  return Contains(kDoubtfulReasons, reason) ? Fault::kDoubtful : Fault::kNone;
}

int Repeats::Count(Fault fault) {
  const auto next = [](int& count, int most) { return count < most ? ++count : 0; };
  switch (fault) {
    case Fault::kBroken:
      return next(broken_, kBrokenInARow);
    case Fault::kDamaged:
      return next(damaged_, kDamagedInARow);
    case Fault::kDoubtful:
      return next(doubtful_, kDoubtfulInARow);
    case Fault::kNone:
      break;
  }
  return 0;
}

absl::Status DamagedTooOften(const absl::Status& last) {
  return base::MakeError(
      absl::StatusCode::kDataLoss, "TRANSFER_DAMAGED",
      "expected the bytes that were sent, found others " + std::to_string(kDamagedInARow + 1) +
          " times in a row (" + base::ReasonOf(last) + ": " + base::MessageOf(last) +
          "); look at the network between this worker and the coordinator: memory, network cards, "
          "cables, and proxies that change what passes through them");
}

}  // namespace espalier::worker::session
