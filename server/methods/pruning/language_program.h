// LanguagePruningProgram: prunes a language model block by block.
//
// Steps:       evaluate the dense model; for each block: statistics of its inputs with all blocks
//              before it pruned → prune; evaluate what is left. A round is a block.
// Memory:      one block and its statistics; everything else is in mapped files.
// Determinism: the result depends on the model, the settings and the calibration examples alone,
//              not on how they are divided.
// Errors:      those of the library and of PruneLayer().
#pragma once

#include <memory>
#include <vector>

#include "server/methods/program.h"
#include "server/methods/pruning/settings.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

class LanguagePruningProgram : public Program {
 public:
  LanguagePruningProgram(const v1::JobSpec& spec, const PruningSettings& settings,
                         std::shared_ptr<const pretrained::ModelLibrary> library);
  absl::StatusOr<Transition> Start() const override;
  absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const override;

 private:
  Step StatisticsStep(const LanguageModel& model, int32_t round) const;
  absl::StatusOr<Transition> AfterStatistics(ProgramState state,
                                             const reduce::Reduced& reduced) const;
  absl::StatusOr<Transition> Commit(ProgramState state) const;
  absl::Status PruneLinear(language::LinearWeights& linear,
                           const sparsity::ActivationStatistics& statistics,
                           v1::LayerSummary& summary) const;

  v1::JobSpec spec_;
  PruningSettings settings_;
  std::shared_ptr<const pretrained::ModelLibrary> library_;
};

// What is wrong with pruning that model so; opens it. For validation.
absl::Status CheckLanguageModel(const language::TransformerConfig& config,
                                const PruningSettings& settings);

// Whether `half` contains a layer with this role.
bool Contains(BlockHalf half, language::LinearRole role);

// An empty model, which is what a job's model is while a language model is in work.
absl::StatusOr<tensor::ModelState> EmptyModel();

}  // namespace espalier::server::methods
