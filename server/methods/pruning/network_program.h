// NetworkPruningProgram: prunes a network trained here (a checkpoint), a part being a sparsifiable
// tensor.
//
// Memory: the model, and one layer dense with its statistics.
#pragma once

#include <memory>
#include <vector>

#include "server/methods/pruning/sequential_program.h"

namespace espalier::server::methods {

class NetworkPruningProgram : public SequentialPruningProgram {
 public:
  NetworkPruningProgram(const v1::JobSpec& spec, const PruningSettings& settings,
                        std::shared_ptr<const pretrained::ModelLibrary> library);
  absl::StatusOr<Transition> Start() const override;

 protected:
  bool reports_perplexity() const override { return false; }
  int32_t NumParts(const ProgramState& state) const override;
  Step StatisticsStep(const ProgramState& state) const override;
  absl::StatusOr<ProgramState> PrunePart(ProgramState state,
                                         const reduce::Reduced& reduced) const override;
  void DescribeModel(const ProgramState& state, v1::RoundSummary& summary) const override;
  void Deliver(const ProgramState& state, Transition& transition) const override;
};

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
