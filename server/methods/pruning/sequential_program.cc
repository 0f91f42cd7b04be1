#include "server/methods/pruning/sequential_program.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "server/methods/pruning/evaluation.h"

namespace espalier::server::methods {
namespace {

constexpr char kEvaluateDense[] = "evaluate_dense";
constexpr char kStatistics[] = "statistics";
constexpr char kEvaluate[] = "evaluate";

}  // namespace

SequentialPruningProgram::SequentialPruningProgram(
    const v1::JobSpec& spec, const PruningSettings& settings,
    std::shared_ptr<const pretrained::ModelLibrary> library)
    : spec_(spec), settings_(settings), library_(std::move(library)) {
  config::ApplyDefaults(spec_);
}

Transition SequentialPruningProgram::EvaluateDense(ProgramState state) const {
  return Evaluate(std::move(state), kEvaluateDense);
}

absl::StatusOr<Transition> SequentialPruningProgram::Next(ProgramState state,
                                                          reduce::Reduced reduced) const {
  state.step.reset();
  state.pending.set_worker_peak_memory_bytes(
      std::max(state.pending.worker_peak_memory_bytes(), reduced.peak_memory_bytes));
  if (state.phase == kEvaluateDense) {
    state.memory = EncodeScore(ScoreOf(reduced));
    return AskForStatistics(std::move(state));
  }
  if (state.phase == kStatistics) return AfterStatistics(std::move(state), reduced);
  if (state.phase == kEvaluate) {
    SetScore(spec_, ScoreOf(reduced), reports_perplexity(), state.pending);
    SetDenseScore(DecodeScore(state.memory), reports_perplexity(), state.pending);
    return Commit(std::move(state));
  }
  return base::FailedPrecondition("STEP_UNEXPECTED", "the job is done; there is no further step");
}

Transition SequentialPruningProgram::AskForStatistics(ProgramState state) const {
  state.phase = kStatistics;
  Transition transition;
  Step step = StatisticsStep(state);
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kStatistics;
  step.round = state.round + 1;
  transition.state = std::move(state);
  transition.state.step = std::move(step);
  return transition;
}

Transition SequentialPruningProgram::Evaluate(ProgramState state, const char* phase) const {
  state.phase = phase;
  Transition transition;
  state.step = EvaluationStep(spec_, state.round + 1);
  transition.state = std::move(state);
  return transition;
}

absl::StatusOr<Transition> SequentialPruningProgram::AfterStatistics(
    ProgramState state, const reduce::Reduced& reduced) const {
  state.pending.set_examples(reduced.examples);
  state.pending.set_participants(reduced.participants);
  ESPALIER_ASSIGN_OR_RETURN(state, PrunePart(std::move(state), reduced));
  if (state.round + 1 < NumParts(state)) return Commit(std::move(state));
  return Evaluate(std::move(state), kEvaluate);
}

// Ends the round of a part; goes on with the next one, if there is one.
Transition SequentialPruningProgram::Commit(ProgramState state) const {
  ++state.round;
  v1::RoundSummary summary = std::move(state.pending);
  state.pending.Clear();
  summary.set_round(state.round);
  DescribeModel(state, summary);
  Transition transition;
  if (state.round < NumParts(state)) {
    transition = AskForStatistics(std::move(state));
  } else {
    state.phase = "done";
    Deliver(state, transition);
    transition.state = std::move(state);
  }
  transition.committed = std::move(summary);
  return transition;
}

}  // namespace espalier::server::methods
