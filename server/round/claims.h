// What a worker says of its result, held against what can be true. When it is asked is a matter of
// admission/update_gate.h.
//
// Threading: pure functions.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::round {

// Errors: InvalidArgument INVALID_UPDATE_ID.
absl::Status CheckUpdateId(const v1::PartialHeader& header);

// `most_examples`: examples that the participant can have; 0 = not known.
// Errors: InvalidArgument EXAMPLES_OUT_OF_RANGE, CLAIM_OUT_OF_RANGE (loss, hits, steps, memory, time,
//         metrics, recommended items).
absl::Status CheckClaims(const v1::PartialHeader& header, const v1::Task& task,
                         int64_t most_examples);

}  // namespace espalier::server::round
