#include "server/methods/pruning/sweep/network_sweep.h"

#include <utility>

#include "common/base/status.h"
#include "common/sparsity/pruning/mask.h"
#include "server/methods/pruning/network_program.h"
#include "server/methods/pruning/sweep/global_magnitude.h"

namespace espalier::server::methods {
namespace {

absl::StatusOr<tensor::ModelState> PruneNetwork(tensor::ModelState model, double sparsity) {
  const std::vector<size_t> tensors = SparsifiableTensors(model.topology->layout());
  GlobalMagnitude chosen(sparsity::PrunedCount(model.topology->sparsifiable_size(), sparsity));
  for (const size_t i : tensors) chosen.Count(DenseTensor(model, i));
  chosen.Narrow();
  for (const size_t i : tensors) chosen.Count(DenseTensor(model, i));
  chosen.Choose();
  for (const size_t i : tensors) {
    std::vector<float> values = DenseTensor(model, i);
    chosen.Prune(values);
    ESPALIER_ASSIGN_OR_RETURN(model, WithTensor(model, i, values));
  }
  return model;
}

}  // namespace

absl::Status NetworkSweep::Load(ProgramState& state) const {
  ESPALIER_ASSIGN_OR_RETURN(auto loaded, library().LoadNetwork(model()));
  state.model = std::move(loaded.state);
  return absl::OkStatus();
}

absl::Status NetworkSweep::Prune(double sparsity, ProgramState& state) const {
  ESPALIER_ASSIGN_OR_RETURN(auto loaded, library().LoadNetwork(model()));
  ESPALIER_ASSIGN_OR_RETURN(state.model, PruneNetwork(std::move(loaded.state), sparsity));
  ++state.topology_version;
  return absl::OkStatus();
}

double NetworkSweep::Performance(const Score& score) const { return score.accuracy; }

void NetworkSweep::DescribeModel(const ProgramState& state, v1::RoundSummary& summary) const {
  DescribeStructure(*state.model.topology, summary);
}

void NetworkSweep::Deliver(const ProgramState& state, Transition& transition) const {
  transition.checkpoint = std::make_shared<const tensor::ModelState>(state.model);
}

}  // namespace espalier::server::methods
