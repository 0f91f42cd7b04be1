#include "server/methods/pruning/network_program.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "server/methods/pruning/prune_layer.h"

namespace espalier::server::methods {
namespace {

// The settings that suit networks.
PruningSettings ForNetworks(PruningSettings settings) {
  // An example is one token of its own, or one for each output position: what varies is between
  // examples.
  settings.dsnot.pooled_variance = true;
  // A narrow row has no small contributions to fine-tune with: each exchange would overshoot.
  if (settings.sign_check_is_auto) settings.dsnot.sign_check = true;
  return settings;
}

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
    : SequentialPruningProgram(spec, ForNetworks(settings), std::move(library)) {}

absl::StatusOr<Transition> NetworkPruningProgram::Start() const {
  ESPALIER_ASSIGN_OR_RETURN(checkpoint::LoadedCheckpoint loaded,
                            library().LoadNetwork(spec().model().pretrained()));
  if (SparsifiableTensors(loaded.state.topology->layout()).empty()) {
    return base::FailedPrecondition(
        "NOTHING_TO_PRUNE",
        "expected a checkpoint with at least one layer that is not marked dense, found none");
  }
  ProgramState state;
  state.model = std::move(loaded.state);
  state.topology_version = 1;
  return EvaluateDense(std::move(state));
}

int32_t NetworkPruningProgram::NumParts(const ProgramState& state) const {
  return static_cast<int32_t>(SparsifiableTensors(state.model.topology->layout()).size());
}

Step NetworkPruningProgram::StatisticsStep(const ProgramState& state) const {
  const tensor::ModelLayout& layout = state.model.topology->layout();
  const tensor::TensorSpec& spec = layout[SparsifiableTensors(layout)[state.round]];
  Step step;
  v1::ActivationStatisticsTask& task = *step.task.mutable_activation_statistics();
  v1::ActivationStatisticsTask::Input& input = *task.add_inputs();
  input.set_layer(spec.name);
  input.set_columns(spec.cols);
  input.set_gram(NeedsGram(settings()));
  return step;
}

absl::StatusOr<ProgramState> NetworkPruningProgram::PrunePart(
    ProgramState state, const reduce::Reduced& reduced) const {
  const tensor::ModelLayout& layout = state.model.topology->layout();
  const size_t tensor = SparsifiableTensors(layout)[state.round];
  const tensor::TensorSpec& spec = layout[tensor];
  const std::vector<float> dense = DenseTensor(state.model, tensor);
  auto pruned = PruneLayer({dense, spec.rows, spec.cols}, reduced.statistics[0], settings(), true,
                           PruningThreads());
  if (!pruned.ok()) return base::Annotate(pruned.status(), spec.name);
  v1::LayerSummary& summary = *state.pending.add_layers();
  summary.set_name(spec.name);
  summary.set_size(spec.size());
  Describe(*pruned, summary);
  ESPALIER_ASSIGN_OR_RETURN(state.model, WithTensor(state.model, tensor, pruned->values));
  ++state.topology_version;
  summary.set_active(state.model.topology->stored(tensor));
  return state;
}

void NetworkPruningProgram::DescribeModel(const ProgramState& state,
                                          v1::RoundSummary& summary) const {
  DescribeStructure(*state.model.topology, summary);
}

void NetworkPruningProgram::Deliver(const ProgramState& state, Transition& transition) const {
  transition.checkpoint = std::make_shared<const tensor::ModelState>(state.model);
}

}  // namespace espalier::server::methods
