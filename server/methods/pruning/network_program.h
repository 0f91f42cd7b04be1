// NetworkPruningProgram: prunes a network trained here (a checkpoint) layer by layer.
//
// Steps:       evaluate the checkpoint; for each sparsifiable tensor: statistics of its inputs with
//              all layers before it pruned → prune; evaluate what is left. A round is a layer.
// Memory:      the model, and one layer dense with its statistics.
// Determinism: as LanguagePruningProgram.
// Errors:      those of the library and of PruneLayer().
#pragma once

#include <memory>
#include <vector>

#include "server/methods/program.h"
#include "server/methods/pruning/settings.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

class NetworkPruningProgram : public Program {
 public:
  NetworkPruningProgram(const v1::JobSpec& spec, const PruningSettings& settings,
                        std::shared_ptr<const pretrained::ModelLibrary> library);
  absl::StatusOr<Transition> Start() const override;
  absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const override;

 private:
  Step StatisticsStep(const ProgramState& state) const;
  absl::StatusOr<Transition> AfterStatistics(ProgramState state,
                                             const reduce::Reduced& reduced) const;
  absl::StatusOr<Transition> Commit(ProgramState state) const;

  v1::JobSpec spec_;
  PruningSettings settings_;
  std::shared_ptr<const pretrained::ModelLibrary> library_;
};

// Whether a model that is to be pruned is a network that was trained here, whose layers the
// coordinator has filled in, and no language model.
inline bool IsNetwork(const v1::ModelSpec& model) {
  return !model.layers().empty() || model.has_recommender();
}

// Indices of the tensors that can be sparse.
std::vector<size_t> SparsifiableTensors(const tensor::ModelLayout& layout);

// rows × cols values of a tensor, zeros where nothing is stored.
std::vector<float> DenseTensor(const tensor::ModelState& model, size_t tensor);

// `model` with that tensor's values (rows × cols); its zeros are not stored.
absl::StatusOr<tensor::ModelState> WithTensor(const tensor::ModelState& model, size_t tensor,
                                              std::span<const float> values);

// Sets what a summary says of the structure.
void DescribeStructure(const tensor::ModelTopology& topology, v1::RoundSummary& summary);

}  // namespace espalier::server::methods
