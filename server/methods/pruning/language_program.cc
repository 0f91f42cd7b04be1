#include "server/methods/pruning/language_program.h"

#include <fmt/core.h>

#include <utility>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "server/methods/pruning/evaluation.h"
#include "server/methods/pruning/language_model.h"
#include "server/methods/pruning/prune_layer.h"

namespace espalier::server::methods {
namespace {

using language::LinearRole;

constexpr char kEvaluateDense[] = "evaluate_dense";
constexpr char kStatistics[] = "statistics";
constexpr char kEvaluate[] = "evaluate";

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
    : spec_(spec), settings_(settings), library_(std::move(library)) {
  config::ApplyDefaults(spec_);
}

absl::StatusOr<Transition> LanguagePruningProgram::Start() const {
  ESPALIER_ASSIGN_OR_RETURN(const auto reader,
                            library_->OpenLanguageModel(spec_.model().pretrained()));
  Transition transition;
  ESPALIER_ASSIGN_OR_RETURN(transition.state.model, EmptyModel());
  ESPALIER_ASSIGN_OR_RETURN(transition.state.language, PublishModel(*reader, library_->parts()));
  transition.state.phase = kEvaluateDense;
  transition.step = EvaluationStep(spec_, 1);
  return transition;
}

Step LanguagePruningProgram::StatisticsStep(const LanguageModel& model, int32_t round) const {
  Step step;
  v1::ActivationStatisticsTask& task = *step.task.mutable_activation_statistics();
  task.set_block(round - 1);
  int last = -1;
  for (const language::LinearLayerSpec& spec : language::BlockLinears(model.config)) {
    if (InputOf(spec.role) == last) continue;
    last = InputOf(spec.role);
    v1::ActivationStatisticsTask::Input& input = *task.add_inputs();
    input.set_layer(spec.name);
    input.set_columns(spec.inputs);
    input.set_gram(NeedsGram(settings_));
  }
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kStatistics;
  step.round = round;
  return step;
}

absl::StatusOr<Transition> LanguagePruningProgram::Next(ProgramState state,
                                                        reduce::Reduced reduced) const {
  state.pending.set_worker_peak_memory_bytes(
      std::max(state.pending.worker_peak_memory_bytes(), reduced.peak_memory_bytes));
  if (state.phase == kEvaluateDense) {
    state.memory = EncodeScore(ScoreOf(reduced));
    state.phase = kStatistics;
    Transition transition;
    transition.step = StatisticsStep(*state.language, 1);
    transition.state = std::move(state);
    return transition;
  }
  if (state.phase == kStatistics) return AfterStatistics(std::move(state), reduced);
  if (state.phase == kEvaluate) {
    SetScore(ScoreOf(reduced), true, state.pending);
    SetDenseScore(DecodeScore(state.memory), true, state.pending);
    return Commit(std::move(state));
  }
  return base::FailedPrecondition("STEP_UNEXPECTED", "the job is done; there is no further step");
}

absl::Status LanguagePruningProgram::PruneLinear(language::LinearWeights& linear,
                                                 const sparsity::ActivationStatistics& statistics,
                                                 v1::LayerSummary& summary) const {
  const std::vector<float> dense = language::DenseValues(linear);
  const sparsity::WeightsView view{dense, linear.spec.outputs, linear.spec.inputs};
  ESPALIER_ASSIGN_OR_RETURN(
      PrunedLayer pruned,
      PruneLayer(view, statistics, settings_, Contains(settings_.refined, linear.spec.role),
                 PruningThreads()));
  linear.topology = nullptr;
  linear.values = std::move(pruned.values);
  ESPALIER_RETURN_IF_ERROR(language::MakeSparse(linear));
  Describe(pruned, summary);
  return absl::OkStatus();
}

absl::StatusOr<Transition> LanguagePruningProgram::AfterStatistics(
    ProgramState state, const reduce::Reduced& reduced) const {
  const int64_t block = state.round;
  // What workers were sent is what is pruned here: the part, not the file it came from.
  ESPALIER_ASSIGN_OR_RETURN(
      language::BlockWeights weights,
      language::DecodeBlock(state.language->blocks[block].bytes(), state.language->config));
  state.pending.set_examples(reduced.examples);
  state.pending.set_participants(reduced.participants);
  int last = -1;
  size_t next = 0;
  for (language::LinearWeights& linear : weights.linears) {
    if (InputOf(linear.spec.role) != last) ++next;
    last = InputOf(linear.spec.role);
    v1::LayerSummary& summary = *state.pending.add_layers();
    summary.set_name(fmt::format("{}{}", language::BlockPrefix(state.language->config, block),
                                 linear.spec.name));
    summary.set_size(linear.spec.outputs * linear.spec.inputs);
    if (!Contains(settings_.skipped, linear.spec.role)) {
      const absl::Status status = PruneLinear(linear, reduced.statistics.at(next - 1), summary);
      if (!status.ok()) return base::Annotate(status, summary.name());
    }
    summary.set_active(static_cast<int64_t>(linear.values.size()));
  }
  ESPALIER_ASSIGN_OR_RETURN(state.language,
                            ReplaceBlock(*state.language, block, weights, library_->parts()));
  if (block + 1 < static_cast<int64_t>(state.language->blocks.size())) {
    return Commit(std::move(state));
  }
  state.phase = kEvaluate;
  Transition transition;
  transition.step = EvaluationStep(spec_, state.round + 1);
  transition.state = std::move(state);
  return transition;
}

// Ends the round of a block; goes on with the next one, if there is one.
absl::StatusOr<Transition> LanguagePruningProgram::Commit(ProgramState state) const {
  const LanguageModel& model = *state.language;
  Transition transition;
  ++state.round;
  v1::RoundSummary summary = std::move(state.pending);
  state.pending.Clear();
  summary.set_round(state.round);
  summary.set_active_weights(model.active_weights());
  summary.set_density(static_cast<double>(model.active_weights()) /
                      static_cast<double>(model.linear_weights()));
  transition.committed = std::move(summary);
  if (state.round < static_cast<int32_t>(model.blocks.size())) {
    transition.step = StatisticsStep(model, state.round + 1);
  } else {
    state.phase = "done";
    transition.language_checkpoint = state.language;
  }
  transition.state = std::move(state);
  return transition;
}

}  // namespace espalier::server::methods
