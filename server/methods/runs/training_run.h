// TrainingRun: the training loop on a structure that stays as it is, from any model and any round
// on: one run of a program that has several (staged_program.h).
//
// The run's round is its clock: the schedule of the learning rate, the order of examples and what
// workers draw follow from it. A run that begins after round k goes on as if it had trained before.
// Ownership, threading, determinism, errors: as Program.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "server/methods/training_program.h"

namespace espalier::server::methods {

class TrainingRun final : public TrainingProgram {
 public:
  // The run ends with round federation.rounds of `spec`. Start() begins it dense.
  using TrainingProgram::TrainingProgram;

  // The run `name` on `model`, of which `round` ≥ 0 rounds count as done. Optimizers, the
  // participants' and the server's, start anew.
  absl::StatusOr<ProgramState> Begin(std::string name, int32_t round,
                                     tensor::ModelState model) const;
};

}  // namespace espalier::server::methods
