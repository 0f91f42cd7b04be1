// How the training loop uses a job's `aggregation` section: the rule its training steps are reduced
// by, and what becomes of the result.
//
// Threading, determinism: pure functions.
#pragma once

#include "absl/status/status.h"
#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/methods/aggregation/server_state.h"
#include "server/methods/evolution.h"
#include "server/reduce/aggregation.h"
#include "server/reduce/reducer.h"

namespace espalier::server::methods {

// The rule of a job whose defaults are filled in.
reduce::Aggregation AggregationOf(const v1::JobSpec& spec);

// Whether the coordinator's memory allows for what the job's aggregation keeps of a model with this
// structure. Errors: FailedPrecondition (AGGREGATION_TOO_LARGE).
absl::Status CheckAggregationMemory(const v1::JobSpec& spec, const tensor::ModelTopology& topology);

// After training step `task` of `spec`: control variates take the updates in, then the server's
// optimizer steps from `model` towards `values` (one for each stored weight), which become the next
// model's. Errors: those of UpdateControls().
absl::Status FinishAggregation(const v1::JobSpec& spec, const v1::Task& task,
                               const tensor::ModelState& model, std::vector<reduce::Update> updates,
                               std::vector<float>& values, ServerState& state);

// What becomes of the state when `evolution` turns the structure `before` into `after`: kept
// weights keep theirs; grown ones begin anew, also where they stood before they were dropped.
void CarryOver(const std::shared_ptr<const tensor::ModelTopology>& before,
               const std::shared_ptr<const tensor::ModelTopology>& after,
               const Evolution& evolution, ServerState& state);

}  // namespace espalier::server::methods
