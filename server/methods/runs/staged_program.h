// StagedProgram: a program of several training runs. Runs of a stage are side by side; when all of
// them are at their end, the next stage begins, with what they came to.
//
// State:       `runs` are those of the stage, also those that are at their end; `round` counts the
//              rounds that all runs have committed, which is what the job counts; `phase` names the
//              stage in work; `kept` and `memory` belong to the method.
// Rounds:      where several runs commit in the same step, they count in the order of the runs.
// Ownership, threading, determinism, errors: as Program.
#pragma once

#include <string>
#include <vector>

#include "server/methods/program.h"

namespace espalier::server::methods {

class StagedProgram : public Program {
 public:
  absl::StatusOr<Transition> Start() const final;
  // A state without runs has no further step.
  absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const final;
  absl::StatusOr<Transition> NextOfRuns(ProgramState state,
                                        std::vector<reduce::Reduced> reduced) const final;

 protected:
  // The program that all runs follow.
  virtual const Program& run_program() const = 0;
  // The first stage has one run, which run_program() starts; this is its name.
  virtual std::string FirstRun() const = 0;
  // Called when a step of the runs is done and before their next one begins, for what the method
  // remembers of them. `state.runs` are as they go on.
  virtual absl::Status Note(ProgramState& /*state*/) const { return absl::OkStatus(); }
  // The runs of the stage after the one whose runs are at their end; none when the job is done.
  // Sets `state.phase` to the name of the stage.
  virtual absl::StatusOr<std::vector<ProgramState>> NextStage(ProgramState& state) const = 0;
};

}  // namespace espalier::server::methods
