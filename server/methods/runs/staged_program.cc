#include "server/methods/runs/staged_program.h"

#include <fmt/core.h>

#include <utility>

#include "common/base/status.h"

namespace espalier::server::methods {
namespace {

constexpr char kDone[] = "done";

// What a run's transition led to, apart from the run's next state; a committed round gets its place
// among those of the job.
Outcome TakeOutcome(Transition& of_run, int32_t& rounds) {
  Outcome outcome = std::move(static_cast<Outcome&>(of_run));
  outcome.run = of_run.state.run;
  if (outcome.committed.has_value()) {
    outcome.committed->set_run(outcome.run);
    outcome.committed->set_run_round(outcome.committed->round());
    outcome.committed->set_round(++rounds);
  }
  return outcome;
}

}  // namespace

absl::StatusOr<Transition> StagedProgram::Start() const {
  ESPALIER_ASSIGN_OR_RETURN(Transition of_run, run_program().Start());
  Transition transition;
  transition.state.phase = FirstRun();
  of_run.state.run = FirstRun();
  transition.state.runs.push_back(std::move(of_run.state));
  ESPALIER_RETURN_IF_ERROR(Note(transition.state));
  return transition;
}

absl::StatusOr<Transition> StagedProgram::Next(ProgramState state,
                                               reduce::Reduced /*reduced*/) const {
  return base::FailedPrecondition(
      "PROGRAM_DONE",
      fmt::format("expected a step in work, found the job in phase \"{}\" after {} rounds",
                  state.phase, state.round));
}

absl::StatusOr<Transition> StagedProgram::NextOfRuns(ProgramState state,
                                                     std::vector<reduce::Reduced> reduced) const {
  Transition transition;
  size_t result = 0;
  for (ProgramState& run : state.runs) {
    if (!run.step.has_value()) continue;
    std::string name = run.run;
    ESPALIER_ASSIGN_OR_RETURN(Transition of_run,
                              run_program().Next(std::move(run), std::move(reduced.at(result++))));
    // What goes before training has a state of its own.
    of_run.state.run = std::move(name);
    if (of_run.normalization.has_value()) transition.normalization = of_run.normalization;
    transition.of_runs.push_back(TakeOutcome(of_run, state.round));
    run = std::move(of_run.state);
  }
  ESPALIER_RETURN_IF_ERROR(Note(state));
  if (StepsInWork(state).empty()) {
    ESPALIER_ASSIGN_OR_RETURN(std::vector<ProgramState> next, NextStage(state));
    if (next.empty()) state.phase = kDone;
    state.runs = std::move(next);
    ESPALIER_RETURN_IF_ERROR(Note(state));
  }
  transition.state = std::move(state);
  return transition;
}

}  // namespace espalier::server::methods
