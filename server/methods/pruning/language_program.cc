#include "server/methods/pruning/language_program.h"

#include <fmt/core.h>

#include <utility>

#include "common/base/status.h"
#include "server/methods/pruning/language_model.h"
#include "server/methods/pruning/prune_layer.h"

namespace espalier::server::methods {
namespace {

using language::LinearRole;

// Layers with the same number are given the same input.
int InputOf(LinearRole role) {
  switch (role) {
    case LinearRole::kQuery:
    case LinearRole::kKey:
    case LinearRole::kValue:
    case LinearRole::kQueryKeyValue:
      return 0;
    case LinearRole::kAttentionOutput:
      return 1;
    case LinearRole::kGate:
    case LinearRole::kUp:
      return 2;
    case LinearRole::kDown:
      return 3;
  }
  return 3;
}

}  // namespace

bool Contains(BlockHalf half, LinearRole role) {
  if (half == BlockHalf::kNone || half == BlockHalf::kBoth) return half == BlockHalf::kBoth;
  return language::IsFeedForward(role) == (half == BlockHalf::kFeedForward);
}

absl::StatusOr<tensor::ModelState> EmptyModel() {
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology topology,
      tensor::ModelTopology::Create(std::make_shared<const tensor::ModelLayout>(), {}));
  return tensor::ModelState{std::make_shared<const tensor::ModelTopology>(std::move(topology)), {}};
}

absl::Status CheckLanguageModel(const language::TransformerConfig& config,
                                const PruningSettings& settings) {
  for (const language::LinearLayerSpec& spec : language::BlockLinears(config)) {
    if (Contains(settings.skipped, spec.role)) continue;
    const absl::Status fits = sparsity::CheckPattern(settings.pattern, spec.inputs);
    if (!fits.ok()) return base::Annotate(fits, spec.name);
  }
  return absl::OkStatus();
}

LanguagePruningProgram::LanguagePruningProgram(
    const v1::JobSpec& spec, const PruningSettings& settings,
    std::shared_ptr<const pretrained::ModelLibrary> library)
    : SequentialPruningProgram(spec, settings, std::move(library)) {}

absl::StatusOr<Transition> LanguagePruningProgram::Start() const {
  ESPALIER_ASSIGN_OR_RETURN(const auto reader,
                            library().OpenLanguageModel(spec().model().pretrained()));
  ProgramState state;
  ESPALIER_ASSIGN_OR_RETURN(state.model, EmptyModel());
  ESPALIER_ASSIGN_OR_RETURN(state.language, PublishModel(*reader, library().parts()));
  return EvaluateDense(std::move(state));
}

int32_t LanguagePruningProgram::NumParts(const ProgramState& state) const {
  return static_cast<int32_t>(state.language->blocks.size());
}

Step LanguagePruningProgram::StatisticsStep(const ProgramState& state) const {
  Step step;
  v1::ActivationStatisticsTask& task = *step.task.mutable_activation_statistics();
  task.set_block(state.round);
  int last = -1;
  for (const language::LinearLayerSpec& spec : language::BlockLinears(state.language->config)) {
    if (InputOf(spec.role) == last) continue;
    last = InputOf(spec.role);
    v1::ActivationStatisticsTask::Input& input = *task.add_inputs();
    input.set_layer(spec.name);
    input.set_columns(spec.inputs);
    input.set_gram(NeedsGram(settings()));
  }
  return step;
}

absl::Status LanguagePruningProgram::PruneLinear(language::LinearWeights& linear,
                                                 const sparsity::ActivationStatistics& statistics,
                                                 v1::LayerSummary& summary) const {
  const std::vector<float> dense = language::DenseValues(linear);
  const sparsity::WeightsView view{dense, linear.spec.outputs, linear.spec.inputs};
  ESPALIER_ASSIGN_OR_RETURN(
      PrunedLayer pruned,
      PruneLayer(view, statistics, settings(), Contains(settings().refined, linear.spec.role),
                 PruningThreads()));
  linear.topology = nullptr;
  linear.values = std::move(pruned.values);
  ESPALIER_RETURN_IF_ERROR(language::MakeSparse(linear));
  Describe(pruned, summary);
  return absl::OkStatus();
}

absl::StatusOr<ProgramState> LanguagePruningProgram::PrunePart(
    ProgramState state, const reduce::Reduced& reduced) const {
  const int64_t block = state.round;
  // What workers were sent is what is pruned here: the part, not the file it came from.
  ESPALIER_ASSIGN_OR_RETURN(
      language::BlockWeights weights,
      language::DecodeBlock(state.language->blocks[block].bytes(), state.language->config));
  int last = -1;
  size_t next = 0;
  for (language::LinearWeights& linear : weights.linears) {
    if (InputOf(linear.spec.role) != last) ++next;
    last = InputOf(linear.spec.role);
    v1::LayerSummary& summary = *state.pending.add_layers();
    summary.set_name(fmt::format("{}{}", language::BlockPrefix(state.language->config, block),
                                 linear.spec.name));
    summary.set_size(linear.spec.outputs * linear.spec.inputs);
    if (!Contains(settings().skipped, linear.spec.role)) {
      const absl::Status status = PruneLinear(linear, reduced.statistics.at(next - 1), summary);
      if (!status.ok()) return base::Annotate(status, summary.name());
    }
    summary.set_active(static_cast<int64_t>(linear.values.size()));
  }
  ESPALIER_ASSIGN_OR_RETURN(state.language,
                            ReplaceBlock(*state.language, block, weights, library().parts()));
  return state;
}

void LanguagePruningProgram::DescribeModel(const ProgramState& state,
                                           v1::RoundSummary& summary) const {
  const LanguageModel& model = *state.language;
  summary.set_active_weights(model.active_weights());
  summary.set_density(static_cast<double>(model.active_weights()) /
                      static_cast<double>(model.linear_weights()));
}

void LanguagePruningProgram::Deliver(const ProgramState& state, Transition& transition) const {
  transition.language_checkpoint = state.language;
}

}  // namespace espalier::server::methods
