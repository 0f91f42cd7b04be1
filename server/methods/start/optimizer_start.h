// The optimizer state with which training begins: that of the checkpoint in model.pretrained, where
// it is of the same kind and crosses rounds in the job as well; else none.
//
// Memory:      beside the result one dense tensor at a time; a checkpoint is read once more.
// Threading:   pure functions of the spec and the files.
// Determinism: equal files give equal states, to the last bit.
// Errors:      those of ModelLibrary and CheckpointReader; DataLoss OPTIMIZER_STATE_INVALID for
//              numbers that no optimizer leaves. That there is no state to begin with is no error.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/job.pb.h"
#include "server/methods/program.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

struct FirstOptimizerState {
  // In the order of tensor::ModelState::optimizer_state, 0 at weights that the checkpoint does not
  // store; empty: a fresh one.
  std::vector<float> numbers;
  OptimizerStart start;
};

// For a model of this structure. `spec` has its defaults filled in; `library` may be null where it
// names no trained model.
absl::StatusOr<FirstOptimizerState> OptimizerStateAtStart(const v1::JobSpec& spec,
                                                          const tensor::ModelTopology& topology,
                                                          const pretrained::ModelLibrary* library);

}  // namespace espalier::server::methods
