// What a reducer had merged, as bytes: the frame around what each kind of reducer saves.
//
// Form:      "ESPREDUC", version (uint32), kind (uint8), the kind's own fields (little-endian), and
//            the CRC-32C of all of it. 128-bit sums are two's complement.
// Threading: pure functions.
// Errors:    InvalidArgument SAVED_SUMS_INVALID for bytes that SealSaved() did not make, of another
//            version, or of another kind of reducer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace espalier::server::reduce {

enum class SavedKind : uint8_t { kMean, kOwners, kRobust, kMetrics, kStatistics, kKept };

std::string SealSaved(SavedKind kind, std::string_view fields);
// The fields, within `saved`.
absl::StatusOr<std::string_view> OpenSaved(SavedKind kind, std::string_view saved);
// The error of fields that do not fit the step; `what` is the part that is wrong.
absl::Status SavedError(std::string_view what);

}  // namespace espalier::server::reduce
