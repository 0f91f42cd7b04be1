// PlannedProgram: a method whose structure is decided outside of it.
//
// It trains like any other. After each `evolve_every`-th round but the last, the step in work is
// one for the job's planner (Participants::kPlanner), who sees the model as it was trained and says
// what is dropped and what grows. The answer is checked before it counts, and kept in the state
// like a plan of the program's own, so that whoever goes on from a later state needs no planner.
//
// Ownership, threading, errors: as Program.
// Determinism: given the answers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {

struct PlannedOptions {
  Budget budget;             // of the first structure, at random; no tensor ever has more weights
  int64_t evolve_every = 1;  // rounds between two decisions
};

class PlannedProgram : public TrainingProgram {
 public:
  PlannedProgram(const v1::JobSpec& spec, PlannedOptions options)
      : TrainingProgram(spec), options_(std::move(options)) {}
  bool asks_planner() const override { return true; }
  absl::Status CheckDecision(const ProgramState& state, std::string_view decision) const override;

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override;
  bool evolves() const override { return true; }
  absl::StatusOr<std::optional<Transition>> AskBeforePlanning(
      const ProgramState& state) const override;
  absl::StatusOr<Transition> NextInPrelude(ProgramState state,
                                           const reduce::Reduced& reduced) const override;
  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced& decided) const override;

 private:
  absl::StatusOr<Evolution> Read(const ProgramState& state, std::string_view decision) const;

  PlannedOptions options_;
};

}  // namespace espalier::server::methods
