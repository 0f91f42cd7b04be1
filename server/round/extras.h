// What follows the values in the body of an upload: growth scores, or a changed structure.
//
// Everything here comes from workers and is believed only after it was checked.
// Threading: pure functions.
// Errors:    InvalidArgument: SCORES_INVALID, INDEX_SET_INVALID, NON_FINITE, READJUSTMENT_INVALID,
//            and those of wire::ApplyTopologyUpdate().
#pragma once

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"
#include "server/reduce/reducer.h"

namespace espalier::server::round {

// The longest body that a result of `task` on this model can have.
uint64_t MaxBodyBytes(const v1::Task& task, const tensor::ModelTopology& model,
                      int64_t values_count);

// Reads `bytes` into `partial`: as many scores as the task asked for at most, or the structure that
// a readjustment led to, which must have changed exactly as many weights as were asked for.
absl::Status AddExtras(const v1::Task& task, const tensor::ModelTopology& model,
                       std::string_view bytes, reduce::Partial& partial);

}  // namespace espalier::server::round
