#include "server/methods/pruning/sweep/sweep_program.h"

#include <utility>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "common/io/byte_codec.h"
#include "server/methods/pruning/evaluation.h"
#include "server/methods/pruning/sweep/knee.h"

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

}  // namespace

SweepProgram::SweepProgram(const v1::JobSpec& spec, SweepSettings settings,
                           std::shared_ptr<const pretrained::ModelLibrary> library)
    : spec_(spec), settings_(std::move(settings)), library_(std::move(library)) {
  config::ApplyDefaults(spec_);
}

absl::StatusOr<Transition> SweepProgram::Start() const {
  Transition transition;
  ProgramState& state = transition.state;
  ESPALIER_RETURN_IF_ERROR(Load(state));
  state.topology_version = 1;
  state.phase = kEvaluate;
  transition.state.step = EvaluationStep(spec_, 1);
  return transition;
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
    SetScore(spec_, score, reports_perplexity(), summary);
    SetDenseScore(Score{memory.losses[0], memory.accuracies[0]}, reports_perplexity(), summary);
    DescribeModel(state, summary);
    if (state.round == static_cast<int32_t>(settings_.sparsities.size())) {
      std::vector<SweepPoint> points;
      points.reserve(memory.losses.size());
      for (size_t i = 0; i < memory.losses.size(); ++i) {
        points.push_back({i == 0 ? 0.0 : settings_.sparsities[i - 1],
                          Performance({memory.losses[i], memory.accuracies[i]})});
      }
      if (const auto knee = FindKnee(points, settings_.tolerance)) summary.set_knee_sparsity(*knee);
    }
    transition.committed = std::move(summary);
    Deliver(state, transition);
  }
  if (state.round < static_cast<int32_t>(settings_.sparsities.size())) {
    ESPALIER_RETURN_IF_ERROR(Prune(settings_.sparsities[state.round], state));
    state.step = EvaluationStep(spec_, state.round + 1);
  }
  transition.state = std::move(state);
  return transition;
}

}  // namespace espalier::server::methods
