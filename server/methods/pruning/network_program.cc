#include "server/methods/pruning/network_program.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "server/methods/pruning/evaluation.h"
#include "server/methods/pruning/prune_layer.h"

namespace espalier::server::methods {
namespace {

constexpr char kEvaluateDense[] = "evaluate_dense";
constexpr char kStatistics[] = "statistics";
constexpr char kEvaluate[] = "evaluate";

}  // namespace

std::vector<size_t> SparsifiableTensors(const tensor::ModelLayout& layout) {
  std::vector<size_t> tensors;
  for (size_t i = 0; i < layout.size(); ++i) {
    if (layout[i].sparsifiable) tensors.push_back(i);
  }
  return tensors;
}

std::vector<float> DenseTensor(const tensor::ModelState& model, size_t tensor) {
  const std::span<const float> stored = model.tensor(tensor);
  if (!model.topology->is_sparse(tensor)) return {stored.begin(), stored.end()};
  const tensor::Topology& topology = model.topology->topology(tensor);
  std::vector<float> dense(topology.size());
  size_t next = 0;
  for (const int64_t position : topology.Positions()) dense[position] = stored[next++];
  return dense;
}

absl::StatusOr<tensor::ModelState> WithTensor(const tensor::ModelState& model, size_t tensor,
                                              std::span<const float> values) {
  const tensor::TensorSpec& spec = model.topology->layout()[tensor];
  std::vector<int64_t> positions;
  std::vector<float> kept;
  for (int64_t k = 0; k < spec.size(); ++k) {
    if (values[k] == 0) continue;
    positions.push_back(k);
    kept.push_back(values[k]);
  }
  ESPALIER_ASSIGN_OR_RETURN(tensor::Topology updated,
                            tensor::Topology::FromPositions(spec.rows, spec.cols, positions));
  const auto structure = std::make_shared<const tensor::Topology>(std::move(updated));
  std::vector<std::shared_ptr<const tensor::Topology>> structures;
  std::vector<float> all;
  for (size_t i = 0; i < model.topology->num_tensors(); ++i) {
    const bool changed = i == tensor;
    structures.push_back(changed ? structure : model.topology->shared_topology(i));
    const std::span<const float> own = changed ? std::span<const float>(kept) : model.tensor(i);
    all.insert(all.end(), own.begin(), own.end());
  }
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology topology,
      tensor::ModelTopology::Create(model.topology->shared_layout(), std::move(structures)));
  return tensor::ModelState{std::make_shared<const tensor::ModelTopology>(std::move(topology)),
                            std::move(all)};
}

void DescribeStructure(const tensor::ModelTopology& topology, v1::RoundSummary& summary) {
  const int64_t size = topology.sparsifiable_size();
  summary.set_active_weights(topology.sparsifiable_stored());
  summary.set_density(size == 0 ? 1.0 : static_cast<double>(topology.sparsifiable_stored()) / size);
}

NetworkPruningProgram::NetworkPruningProgram(
    const v1::JobSpec& spec, const PruningSettings& settings,
    std::shared_ptr<const pretrained::ModelLibrary> library)
    : spec_(spec), settings_(settings), library_(std::move(library)) {
  config::ApplyDefaults(spec_);
  // An example is one token of its own, or one for each output position: what varies is between
  // examples.
  settings_.dsnot.pooled_variance = true;
  // A narrow row has no small contributions to fine-tune with: each exchange would overshoot.
  if (settings_.sign_check_is_auto) settings_.dsnot.sign_check = true;
}

absl::StatusOr<Transition> NetworkPruningProgram::Start() const {
  ESPALIER_ASSIGN_OR_RETURN(checkpoint::LoadedCheckpoint loaded,
                            library_->LoadNetwork(spec_.model().pretrained()));
  if (SparsifiableTensors(loaded.state.topology->layout()).empty()) {
    return base::FailedPrecondition(
        "NOTHING_TO_PRUNE",
        "expected a checkpoint with at least one layer that is not marked dense, found none");
  }
  Transition transition;
  transition.state.model = std::move(loaded.state);
  transition.state.phase = kEvaluateDense;
  transition.state.topology_version = 1;
  transition.step = EvaluationStep(spec_, 1);
  return transition;
}

Step NetworkPruningProgram::StatisticsStep(const ProgramState& state) const {
  const tensor::ModelLayout& layout = state.model.topology->layout();
  const tensor::TensorSpec& spec = layout[SparsifiableTensors(layout)[state.round]];
  Step step;
  v1::ActivationStatisticsTask& task = *step.task.mutable_activation_statistics();
  v1::ActivationStatisticsTask::Input& input = *task.add_inputs();
  input.set_layer(spec.name);
  input.set_columns(spec.cols);
  input.set_gram(NeedsGram(settings_));
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kStatistics;
  step.round = state.round + 1;
  return step;
}

absl::StatusOr<Transition> NetworkPruningProgram::Next(ProgramState state,
                                                       reduce::Reduced reduced) const {
  state.pending.set_worker_peak_memory_bytes(
      std::max(state.pending.worker_peak_memory_bytes(), reduced.peak_memory_bytes));
  if (state.phase == kEvaluateDense) {
    state.memory = EncodeScore(ScoreOf(reduced));
    state.phase = kStatistics;
    Transition transition;
    transition.step = StatisticsStep(state);
    transition.state = std::move(state);
    return transition;
  }
  if (state.phase == kStatistics) return AfterStatistics(std::move(state), reduced);
  if (state.phase == kEvaluate) {
    SetScore(ScoreOf(reduced), false, state.pending);
    SetDenseScore(DecodeScore(state.memory), false, state.pending);
    return Commit(std::move(state));
  }
  return base::FailedPrecondition("STEP_UNEXPECTED", "the job is done; there is no further step");
}

absl::StatusOr<Transition> NetworkPruningProgram::AfterStatistics(
    ProgramState state, const reduce::Reduced& reduced) const {
  const tensor::ModelLayout& layout = state.model.topology->layout();
  const std::vector<size_t> tensors = SparsifiableTensors(layout);
  const size_t tensor = tensors[state.round];
  const tensor::TensorSpec& spec = layout[tensor];
  const std::vector<float> dense = DenseTensor(state.model, tensor);
  auto pruned = PruneLayer({dense, spec.rows, spec.cols}, reduced.statistics[0], settings_, true,
                           PruningThreads());
  if (!pruned.ok()) return base::Annotate(pruned.status(), spec.name);
  state.pending.set_examples(reduced.examples);
  state.pending.set_participants(reduced.participants);
  v1::LayerSummary& summary = *state.pending.add_layers();
  summary.set_name(spec.name);
  summary.set_size(spec.size());
  Describe(*pruned, summary);
  ESPALIER_ASSIGN_OR_RETURN(state.model, WithTensor(state.model, tensor, pruned->values));
  ++state.topology_version;
  summary.set_active(state.model.topology->stored(tensor));
  if (state.round + 1 < static_cast<int32_t>(tensors.size())) return Commit(std::move(state));
  state.phase = kEvaluate;
  Transition transition;
  transition.step = EvaluationStep(spec_, state.round + 1);
  transition.state = std::move(state);
  return transition;
}

absl::StatusOr<Transition> NetworkPruningProgram::Commit(ProgramState state) const {
  Transition transition;
  ++state.round;
  v1::RoundSummary summary = std::move(state.pending);
  state.pending.Clear();
  summary.set_round(state.round);
  DescribeStructure(*state.model.topology, summary);
  transition.committed = std::move(summary);
  const auto layers = SparsifiableTensors(state.model.topology->layout()).size();
  if (state.round < static_cast<int32_t>(layers)) {
    transition.step = StatisticsStep(state);
  } else {
    state.phase = "done";
    transition.checkpoint = std::make_shared<const tensor::ModelState>(state.model);
  }
  transition.state = std::move(state);
  return transition;
}

}  // namespace espalier::server::methods
