#include "server/methods/pruning/sweep_program.h"

#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "common/io/byte_codec.h"
#include "common/sparsity/pruning/mask.h"
#include "server/methods/pruning/evaluation.h"
#include "server/methods/pruning/global_magnitude.h"
#include "server/methods/pruning/knee.h"
#include "server/methods/pruning/language_model.h"
#include "server/methods/pruning/language_program.h"
#include "server/methods/pruning/network_program.h"

namespace espalier::server::methods {
namespace {

constexpr char kEvaluate[] = "evaluate";

// What is remembered: the score of the dense model and of each sparsity so far.
struct Memory {
  std::vector<double> losses;
  std::vector<double> accuracies;

  std::string Encode() const {
    std::string bytes;
    io::ByteWriter writer(bytes);
    writer.PutArray(std::span<const double>(losses));
    writer.PutArray(std::span<const double>(accuracies));
    return bytes;
  }
  static Memory Decode(const std::string& bytes) {
    Memory memory;
    if (bytes.empty()) return memory;
    io::ByteReader reader(bytes);
    memory.losses = reader.GetArray<double>();
    memory.accuracies = reader.GetArray<double>();
    return memory;
  }
};

void Prune(GlobalMagnitude& chosen, std::span<float> values) {
  for (float& value : values) {
    if (chosen.IsPruned(value)) value = 0;
  }
}

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
          Prune(chosen, linear.values);
          ESPALIER_RETURN_IF_ERROR(language::MakeSparse(linear));
        }
        ESPALIER_ASSIGN_OR_RETURN(pruned, ReplaceBlock(*pruned, b, block, parts));
        return absl::OkStatus();
      }));
  return pruned;
}

absl::StatusOr<tensor::ModelState> PruneNetwork(tensor::ModelState model, double sparsity) {
  const std::vector<size_t> tensors = SparsifiableTensors(model.topology->layout());
  GlobalMagnitude chosen(sparsity::PrunedCount(model.topology->sparsifiable_size(), sparsity));
  for (const size_t i : tensors) chosen.Count(DenseTensor(model, i));
  chosen.Narrow();
  for (const size_t i : tensors) chosen.Count(DenseTensor(model, i));
  chosen.Choose();
  for (const size_t i : tensors) {
    std::vector<float> values = DenseTensor(model, i);
    Prune(chosen, values);
    ESPALIER_ASSIGN_OR_RETURN(model, WithTensor(model, i, values));
  }
  return model;
}

}  // namespace

SweepProgram::SweepProgram(const v1::JobSpec& spec, SweepSettings settings,
                           std::shared_ptr<const pretrained::ModelLibrary> library)
    : spec_(spec), settings_(std::move(settings)), library_(std::move(library)) {
  config::ApplyDefaults(spec_);
}

bool SweepProgram::is_language() const { return !IsNetwork(spec_.model()); }

absl::StatusOr<Transition> SweepProgram::Start() const {
  Transition transition;
  ProgramState& state = transition.state;
  if (is_language()) {
    ESPALIER_ASSIGN_OR_RETURN(const auto reader,
                              library_->OpenLanguageModel(spec_.model().pretrained()));
    ESPALIER_ASSIGN_OR_RETURN(state.model, EmptyModel());
    ESPALIER_ASSIGN_OR_RETURN(state.language, PublishModel(*reader, library_->parts()));
  } else {
    ESPALIER_ASSIGN_OR_RETURN(auto loaded, library_->LoadNetwork(spec_.model().pretrained()));
    state.model = std::move(loaded.state);
  }
  state.topology_version = 1;
  state.phase = kEvaluate;
  transition.state.step = EvaluationStep(spec_, 1);
  return transition;
}

absl::Status SweepProgram::PruneFor(ProgramState& state) const {
  const double sparsity = settings_.sparsities[state.round];
  if (is_language()) {
    ESPALIER_ASSIGN_OR_RETURN(const auto reader,
                              library_->OpenLanguageModel(spec_.model().pretrained()));
    ESPALIER_ASSIGN_OR_RETURN(state.language,
                              PruneLanguage(*reader, *state.language, sparsity, library_->parts()));
    return absl::OkStatus();
  }
  ESPALIER_ASSIGN_OR_RETURN(auto loaded, library_->LoadNetwork(spec_.model().pretrained()));
  ESPALIER_ASSIGN_OR_RETURN(state.model, PruneNetwork(std::move(loaded.state), sparsity));
  ++state.topology_version;
  return absl::OkStatus();
}

void SweepProgram::Describe(const ProgramState& state, v1::RoundSummary& summary) const {
  if (!is_language()) return DescribeStructure(*state.model.topology, summary);
  summary.set_active_weights(state.language->active_weights());
  summary.set_density(static_cast<double>(state.language->active_weights()) /
                      static_cast<double>(state.language->linear_weights()));
}

absl::StatusOr<Transition> SweepProgram::Next(ProgramState state, reduce::Reduced reduced) const {
  const std::optional<Score> score = ScoreOf(reduced);
  if (!score) {
    return base::FailedPrecondition(
        "NO_TEST_DATA",
        "expected test examples to compare sparsities by, found none; give the data set a test "
        "file, or set data.test_fraction");
  }
  Memory memory = Memory::Decode(state.memory);
  const bool dense = memory.losses.empty();
  memory.losses.push_back(score->loss);
  memory.accuracies.push_back(score->accuracy);
  state.memory = memory.Encode();
  state.step.reset();
  Transition transition;
  if (!dense) {
    v1::RoundSummary summary;
    summary.set_round(++state.round);
    summary.set_participants(reduced.participants);
    summary.set_worker_peak_memory_bytes(reduced.peak_memory_bytes);
    SetScore(spec_, score, is_language(), summary);
    SetDenseScore(Score{memory.losses[0], memory.accuracies[0]}, is_language(), summary);
    Describe(state, summary);
    if (state.round == static_cast<int32_t>(settings_.sparsities.size())) {
      std::vector<SweepPoint> points;
      for (size_t i = 0; i < memory.losses.size(); ++i) {
        // Of a language model 1 / perplexity.
        points.push_back({i == 0 ? 0.0 : settings_.sparsities[i - 1],
                          is_language() ? std::exp(-memory.losses[i]) : memory.accuracies[i]});
      }
      if (const auto knee = FindKnee(points, settings_.tolerance)) summary.set_knee_sparsity(*knee);
    }
    transition.committed = std::move(summary);
    transition.language_checkpoint = state.language;
    if (!is_language()) {
      transition.checkpoint = std::make_shared<const tensor::ModelState>(state.model);
    }
  }
  if (state.round < static_cast<int32_t>(settings_.sparsities.size())) {
    ESPALIER_RETURN_IF_ERROR(PruneFor(state));
    state.step = EvaluationStep(spec_, state.round + 1);
  }
  transition.state = std::move(state);
  return transition;
}

}  // namespace espalier::server::methods
