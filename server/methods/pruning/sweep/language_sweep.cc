#include "server/methods/pruning/sweep/language_sweep.h"

#include <cmath>

#include "common/base/status.h"
#include "common/sparsity/pruning/mask.h"
#include "server/methods/pruning/language_model.h"
#include "server/methods/pruning/language_program.h"
#include "server/methods/pruning/sweep/global_magnitude.h"

namespace espalier::server::methods {
namespace {

// Calls `visit` with each linear layer of each block.
template <typename Visit>
absl::Status ForEachBlock(const language::CheckpointReader& reader, const Visit& visit) {
  for (int64_t b = 0; b < reader.config().blocks; ++b) {
    ESPALIER_ASSIGN_OR_RETURN(language::BlockWeights block, reader.ReadBlock(b));
    for (language::LinearWeights& linear : block.linears) {
      linear.values = language::DenseValues(linear);
      linear.topology = nullptr;
    }
    ESPALIER_RETURN_IF_ERROR(visit(b, block));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> PruneLanguage(
    const language::CheckpointReader& reader, const LanguageModel& model, double sparsity,
    pretrained::PartStore& parts) {
  GlobalMagnitude chosen(sparsity::PrunedCount(model.linear_weights(), sparsity));
  const auto count = [&chosen](int64_t, const language::BlockWeights& block) {
    for (const language::LinearWeights& linear : block.linears) chosen.Count(linear.values);
    return absl::OkStatus();
  };
  ESPALIER_RETURN_IF_ERROR(ForEachBlock(reader, count));
  chosen.Narrow();
  ESPALIER_RETURN_IF_ERROR(ForEachBlock(reader, count));
  chosen.Choose();
  auto pruned = std::make_shared<const LanguageModel>(model);
  ESPALIER_RETURN_IF_ERROR(
      ForEachBlock(reader, [&](int64_t b, language::BlockWeights& block) -> absl::Status {
        for (language::LinearWeights& linear : block.linears) {
          chosen.Prune(linear.values);
          ESPALIER_RETURN_IF_ERROR(language::MakeSparse(linear));
        }
        ESPALIER_ASSIGN_OR_RETURN(pruned, ReplaceBlock(*pruned, b, block, parts));
        return absl::OkStatus();
      }));
  return pruned;
}

}  // namespace

absl::Status LanguageSweep::Load(ProgramState& state) const {
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, library().OpenLanguageModel(model()));
  ESPALIER_ASSIGN_OR_RETURN(state.model, EmptyModel());
  ESPALIER_ASSIGN_OR_RETURN(state.language, PublishModel(*reader, library().parts()));
  return absl::OkStatus();
}

absl::Status LanguageSweep::Prune(double sparsity, ProgramState& state) const {
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, library().OpenLanguageModel(model()));
  ESPALIER_ASSIGN_OR_RETURN(state.language,
                            PruneLanguage(*reader, *state.language, sparsity, library().parts()));
  return absl::OkStatus();
}

double LanguageSweep::Performance(const Score& score) const { return std::exp(-score.loss); }

void LanguageSweep::DescribeModel(const ProgramState& state, v1::RoundSummary& summary) const {
  summary.set_active_weights(state.language->active_weights());
  summary.set_density(static_cast<double>(state.language->active_weights()) /
                      static_cast<double>(state.language->linear_weights()));
}

void LanguageSweep::Deliver(const ProgramState& state, Transition& transition) const {
  transition.language_checkpoint = state.language;
}

}  // namespace espalier::server::methods
