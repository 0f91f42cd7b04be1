// What a worker says of its result, held against what can be true: the first door of an update,
// passed before a byte of its body is read.
//
// Threading: pure functions.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::round {

// `most_examples`: examples that the participant can have; 0 = not known.
// Errors: InvalidArgument INVALID_UPDATE_ID, EXAMPLES_OUT_OF_RANGE, CLAIM_OUT_OF_RANGE (loss, hits,
//         steps, metrics, recommended items).
absl::Status CheckClaims(const v1::PartialHeader& header, const v1::Task& task,
                         int64_t most_examples);

}  // namespace espalier::server::round
