#include "server/methods/planning/planned_program.h"

#include <utility>
#include <vector>

#include "common/base/status.h"
#include "server/methods/planning/decision.h"

namespace espalier::server::methods {
namespace {

constexpr char kDecide[] = "decide";

}  // namespace

absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>>
PlannedProgram::InitialStructure(const tensor::ModelLayout& layout) const {
  return RandomStructure(layout, options_.budget, seed());
}

absl::StatusOr<std::optional<Transition>> PlannedProgram::AskBeforePlanning(
    const ProgramState& state) const {
  if (RoundInWork(state) % options_.evolve_every != 0) return std::nullopt;
  Transition question;
  question.state = state;
  question.state.phase = kDecide;
  Step step;
  step.participants = Participants::kPlanner;
  step.round = RoundInWork(state);
  question.state.step = std::move(step);
  return question;
}

absl::StatusOr<Transition> PlannedProgram::NextInPrelude(ProgramState state,
                                                         const reduce::Reduced& reduced) const {
  if (state.phase != kDecide) return Done(state);
  return PlanAndProceed(std::move(state), reduced);
}

absl::StatusOr<Evolution> PlannedProgram::PlanEvolution(const ProgramState& state,
                                                        const reduce::Reduced& decided) const {
  return Read(state, decided.decision);
}

absl::Status PlannedProgram::CheckDecision(const ProgramState& state,
                                           std::string_view decision) const {
  return Read(state, decision).status();
}

absl::StatusOr<Evolution> PlannedProgram::Read(const ProgramState& state,
                                               std::string_view decision) const {
  const tensor::ModelTopology& topology = *state.model.topology;
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> most,
                            StoredCounts(topology.layout(), options_.budget));
  return ReadDecision(topology, most, decision);
}

}  // namespace espalier::server::methods
