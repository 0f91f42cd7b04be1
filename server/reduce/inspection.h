// What an update must fulfil before it is folded, whatever the rule.
//
// Threading:   pure functions.
// Errors:      InvalidArgument: SHAPE_MISMATCH (wrong count), NON_FINITE (a value or score that is
//              infinite or not a number), VALUE_OUT_OF_RANGE (a negative second moment); those of
//              the source.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/reduce/reducer.h"

namespace espalier::server::reduce {

// Reads the values of `partial` once: `expected` of them, of a model that stores `stored` weights.
// `also` sees every piece that is good. Returns the bits of the largest |value| or |score|.
absl::StatusOr<uint32_t> Inspect(const Partial& partial, int64_t expected, int64_t stored,
                                 const std::function<void(std::span<const float>)>& also = {});

// The error of an update with `found` values instead of `expected`.
absl::Status CountError(int64_t expected, int64_t found);

}  // namespace espalier::server::reduce
