#include "server/methods/program.h"

#include <fmt/core.h>

#include <utility>

#include "common/base/status.h"

namespace espalier::server::methods {

std::vector<const ProgramState*> StepsInWork(const ProgramState& state) {
  std::vector<const ProgramState*> in_work;
  if (state.step.has_value()) in_work.push_back(&state);
  for (const ProgramState& run : state.runs) {
    if (run.step.has_value()) in_work.push_back(&run);
  }
  return in_work;
}

std::vector<Outcome*> OutcomesOf(Transition& transition) {
  if (transition.of_runs.empty()) return {&transition};
  std::vector<Outcome*> outcomes;
  outcomes.reserve(transition.of_runs.size());
  for (Outcome& outcome : transition.of_runs) outcomes.push_back(&outcome);
  return outcomes;
}

absl::StatusOr<Transition> Program::NextOfRuns(ProgramState state,
                                               std::vector<reduce::Reduced> /*reduced*/) const {
  return base::FailedPrecondition(
      "STATE_CORRUPT", fmt::format("expected the state of one model, found one of {} runs; start "
                                   "the job again",
                                   state.runs.size()));
}

absl::Status Program::CheckDecision(const ProgramState& /*state*/,
                                    std::string_view /*decision*/) const {
  return base::FailedPrecondition("NO_PLANNER",
                                  "expected a method that leaves decisions to a planner, found one "
                                  "that decides by itself");
}

absl::StatusOr<Transition> NextOf(const Program& program, ProgramState state,
                                  std::vector<reduce::Reduced> reduced) {
  if (!state.runs.empty()) return program.NextOfRuns(std::move(state), std::move(reduced));
  return program.Next(std::move(state),
                      reduced.empty() ? reduce::Reduced() : std::move(reduced.front()));
}

}  // namespace espalier::server::methods
