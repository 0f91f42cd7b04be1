// LanguagePruningProgram: prunes a language model, a part being a block of layers.
//
// Memory: one block and its statistics; everything else is in mapped files.
#pragma once

#include <memory>
#include <vector>

#include "server/methods/pruning/sequential_program.h"

namespace espalier::server::methods {

class LanguagePruningProgram : public SequentialPruningProgram {
 public:
  LanguagePruningProgram(const v1::JobSpec& spec, const PruningSettings& settings,
                         std::shared_ptr<const pretrained::ModelLibrary> library);
  absl::StatusOr<Transition> Start() const override;

 protected:
  bool reports_perplexity() const override { return true; }
  int32_t NumParts(const ProgramState& state) const override;
  Step StatisticsStep(const ProgramState& state) const override;
  absl::StatusOr<ProgramState> PrunePart(ProgramState state,
                                         const reduce::Reduced& reduced) const override;
  void DescribeModel(const ProgramState& state, v1::RoundSummary& summary) const override;
  void Deliver(const ProgramState& state, Transition& transition) const override;

 private:
  absl::Status PruneLinear(language::LinearWeights& linear,
                           const sparsity::ActivationStatistics& statistics,
                           v1::LayerSummary& summary) const;
};

// What is wrong with pruning that model so; opens it. For validation.
absl::Status CheckLanguageModel(const language::TransformerConfig& config,
                                const PruningSettings& settings);

// Whether `half` contains a layer with this role.
bool Contains(BlockHalf half, language::LinearRole role);

// An empty model, which is what a job's model is while a language model is in work.
absl::StatusOr<tensor::ModelState> EmptyModel();

}  // namespace espalier::server::methods
