#include "server/methods/training_program.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/initial_values.h"
#include "server/methods/learning_rate.h"

namespace espalier::server::methods {
namespace {

constexpr char kTrain[] = "train";
constexpr char kEvaluateFederated[] = "evaluate_federated";
constexpr char kEvaluateCentral[] = "evaluate_central";
constexpr char kDone[] = "done";

// Evaluation keeps no gradients, so a batch of this size costs a network of linear layers no more
// memory than a training batch. Of images every layer keeps large maps: there, the training batch.
constexpr int32_t kMinEvaluationBatchSize = 128;

// Describes the model as trained in the summary of the round in work.
void DescribeModel(const tensor::ModelTopology& topology, v1::RoundSummary& summary) {
  const int64_t size = topology.sparsifiable_size();
  summary.set_active_weights(topology.sparsifiable_stored());
  summary.set_density(size == 0 ? 1.0 : static_cast<double>(topology.sparsifiable_stored()) / size);
}

void NotePeakMemory(const reduce::Reduced& reduced, v1::RoundSummary& summary) {
  summary.set_worker_peak_memory_bytes(
      std::max(summary.worker_peak_memory_bytes(), reduced.peak_memory_bytes));
}

}  // namespace

TrainingProgram::TrainingProgram(const v1::JobSpec& spec) : spec_(spec) {
  config::ApplyDefaults(spec_);
}

v1::Task TrainingProgram::MakeTask(const ProgramState& state) const {
  const int32_t round = RoundInWork(state);
  v1::Task task;
  v1::TrainTask& train = *task.mutable_train();
  *train.mutable_training() = spec_.training();
  train.set_learning_rate(spec_.training().optimizer().learning_rate() *
                          LearningRateFactor(spec_.training().schedule(), round, rounds()));
  train.set_first_step(static_cast<int64_t>(round - 1) * spec_.training().local_steps());
  return task;
}

std::vector<float> TrainingProgram::GrownWeights(const ProgramState& state,
                                                 const StructureChange::Tensor& change) const {
  return std::vector<float>(change.diff.grown.size(), 0.0f);
}

bool TrainingProgram::IsEvaluated(int32_t round) const {
  if (!evaluates()) return false;
  return round == rounds() || round % spec_.evaluation().every_rounds() == 0;
}

Step TrainingProgram::TrainStep(ProgramState& state) const {
  state.phase = kTrain;
  state.pending.Clear();
  state.pending.set_round(RoundInWork(state));
  Step step;
  step.task = MakeTask(state);
  step.participants = Participants::kCohort;
  step.reducer = reduce::ReducerKind::kMean;
  step.round = RoundInWork(state);
  return step;
}

Step TrainingProgram::EvaluateStep(ProgramState& state, bool central) const {
  state.phase = central ? kEvaluateCentral : kEvaluateFederated;
  Step step;
  v1::EvaluateTask& task = *step.task.mutable_evaluate();
  const bool large = spec_.model().has_input_image() || spec_.model().has_transformer();
  const int32_t least = large ? 1 : kMinEvaluationBatchSize;
  task.set_batch_size(std::max(spec_.training().batch_size(), least));
  task.set_whole_test_split(central);
  step.participants = central ? Participants::kAnyOne : Participants::kAll;
  step.reducer = reduce::ReducerKind::kMetrics;
  step.round = RoundInWork(state);
  return step;
}

absl::StatusOr<Transition> TrainingProgram::BeginTraining(ProgramState state,
                                                          tensor::ModelState model) const {
  const bool same =
      state.model.topology != nullptr && state.model.topology->hash() == model.topology->hash();
  if (!same) ++state.topology_version;
  state.model = std::move(model);
  ESPALIER_ASSIGN_OR_RETURN(const ProgramMemory memory,
                            ProgramMemory::Begin(*state.model.topology, evolves()));
  state.memory = memory.Encode();
  Transition transition;
  transition.step = TrainStep(state);
  transition.state = std::move(state);
  return transition;
}

absl::StatusOr<Transition> TrainingProgram::Start() const {
  ESPALIER_ASSIGN_OR_RETURN(std::optional<Transition> prelude, StartPrelude());
  if (prelude) return *std::move(prelude);
  ESPALIER_ASSIGN_OR_RETURN(auto layout, wire::LayoutOf(spec_.model()));
  ESPALIER_ASSIGN_OR_RETURN(auto topologies, InitialStructure(*layout));
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelTopology topology,
                            tensor::ModelTopology::Create(layout, std::move(topologies)));
  tensor::ModelState model;
  model.topology = std::make_shared<const tensor::ModelTopology>(std::move(topology));
  model.values = InitialValues(spec_.model(), *model.topology, seed());
  return BeginTraining({}, std::move(model));
}

absl::StatusOr<Transition> TrainingProgram::Next(ProgramState state,
                                                 reduce::Reduced reduced) const {
  if (state.phase == kTrain) return AfterTraining(std::move(state), std::move(reduced));
  if (state.phase == kEvaluateFederated) {
    return AfterFederatedEvaluation(std::move(state), reduced);
  }
  if (state.phase == kEvaluateCentral) return AfterCentralEvaluation(std::move(state), reduced);
  return NextInPrelude(std::move(state), reduced);
}

absl::StatusOr<Transition> TrainingProgram::NextInPrelude(ProgramState state,
                                                          const reduce::Reduced&) const {
  return Done(state);
}

absl::Status TrainingProgram::Done(const ProgramState& state) const {
  return base::FailedPrecondition(
      "PROGRAM_DONE", fmt::format("expected a step in work, found the job in phase \"{}\" after "
                                  "round {} of {}",
                                  state.phase, state.round, rounds()));
}

absl::StatusOr<Transition> TrainingProgram::AfterTraining(ProgramState state,
                                                          reduce::Reduced reduced) const {
  const size_t stored = state.model.values.size();
  const size_t expected = stored * static_cast<size_t>(wire::ValuesPerWeight(MakeTask(state)));
  if (reduced.values.size() != expected) {
    return base::FailedPrecondition(
        "SHAPE_MISMATCH",
        fmt::format("expected a mean of {} values, found {}", expected, reduced.values.size()));
  }
  state.model.optimizer_state.assign(reduced.values.begin() + static_cast<int64_t>(stored),
                                     reduced.values.end());
  reduced.values.resize(stored);
  reduced.values.shrink_to_fit();
  state.model.values = std::move(reduced.values);
  v1::RoundSummary& summary = state.pending;
  summary.set_participants(reduced.participants);
  summary.set_examples(reduced.examples);
  summary.set_train_loss(reduced.loss_sum / static_cast<double>(reduced.examples));
  NotePeakMemory(reduced, summary);

  if (RoundInWork(state) == rounds()) {
    ESPALIER_ASSIGN_OR_RETURN(const Evolution removal, FinalRemoval(state));
    std::optional<StructureChange> change;
    if (!removal.empty()) {
      ESPALIER_ASSIGN_OR_RETURN(change, Change(removal, state));
    }
    ESPALIER_ASSIGN_OR_RETURN(Transition transition, Proceed(std::move(state), true));
    transition.structure_change = std::move(change);
    return transition;
  }
  if (evolves()) {
    ESPALIER_ASSIGN_OR_RETURN(ProgramMemory memory, ProgramMemory::Decode(state.memory));
    ESPALIER_ASSIGN_OR_RETURN(memory.planned, PlanEvolution(state, reduced));
    state.memory = memory.Encode();
  }
  return Proceed(std::move(state), true);
}

absl::StatusOr<Transition> TrainingProgram::AfterFederatedEvaluation(
    ProgramState state, const reduce::Reduced& reduced) const {
  if (reduced.examples > 0) {
    const auto examples = static_cast<double>(reduced.examples);
    state.pending.set_federated_test_loss(reduced.loss_sum / examples);
    state.pending.set_federated_test_accuracy(static_cast<double>(reduced.correct) / examples);
  }
  NotePeakMemory(reduced, state.pending);
  return Proceed(std::move(state), false);
}

absl::StatusOr<Transition> TrainingProgram::AfterCentralEvaluation(
    ProgramState state, const reduce::Reduced& reduced) const {
  if (reduced.examples > 0) {
    const auto examples = static_cast<double>(reduced.examples);
    state.pending.set_test_loss(reduced.loss_sum / examples);
    state.pending.set_test_accuracy(static_cast<double>(reduced.correct) / examples);
  }
  NotePeakMemory(reduced, state.pending);
  return Commit(std::move(state));
}

absl::StatusOr<Transition> TrainingProgram::Proceed(ProgramState state,
                                                    bool trained_just_now) const {
  if (!IsEvaluated(RoundInWork(state))) return Commit(std::move(state));
  const v1::Evaluation& evaluation = spec_.evaluation();
  const bool federated = trained_just_now && evaluation.federated();
  if (!federated && !evaluation.central()) return Commit(std::move(state));
  Transition transition;
  transition.step = EvaluateStep(state, /*central=*/!federated);
  transition.state = std::move(state);
  return transition;
}

absl::StatusOr<StructureChange> TrainingProgram::Change(const Evolution& evolution,
                                                        ProgramState& state) const {
  StructureChange change{state.model.topology, evolution};
  ESPALIER_ASSIGN_OR_RETURN(
      state.model, Evolve(state.model, evolution, [&](const StructureChange::Tensor& tensor) {
        return GrownWeights(state, tensor);
      }));
  ++state.topology_version;
  state.pending.set_weights_changed(DroppedWeights(evolution));
  return change;
}

absl::StatusOr<Transition> TrainingProgram::Commit(ProgramState state) const {
  Transition transition;
  ESPALIER_ASSIGN_OR_RETURN(ProgramMemory memory, ProgramMemory::Decode(state.memory));
  DescribeModel(*state.model.topology, state.pending);
  state.pending.set_explored(memory.explored);
  transition.checkpoint = std::make_shared<const tensor::ModelState>(
      tensor::ModelState{state.model.topology, state.model.values, {}});
  if (!memory.planned.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(transition.structure_change, Change(memory.planned, state));
    memory.planned.clear();
    ESPALIER_RETURN_IF_ERROR(memory.Explore(*state.model.topology));
    state.memory = memory.Encode();
  }
  transition.committed = state.pending;
  state.round = RoundInWork(state);
  if (state.round < rounds()) {
    transition.step = TrainStep(state);
  } else {
    state.phase = kDone;
  }
  transition.state = std::move(state);
  return transition;
}

}  // namespace espalier::server::methods
