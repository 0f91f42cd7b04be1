#include "server/methods/fedtiny/fedtiny_program.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "common/sparsity/schedule.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/calibration/statistics.h"
#include "server/methods/fedtiny/candidate_pool.h"
#include "server/methods/gradient_growth.h"

namespace espalier::server::methods {
namespace {

constexpr char kStatistics[] = "select_statistics";
constexpr char kLoss[] = "select_loss";

}  // namespace

// What is remembered while candidates are compared.
struct FedTinyProgram::Selection {
  int64_t candidate = 0;          // in work
  std::vector<double> losses;     // of those before it
  std::vector<float> statistics;  // of the best so far: its running statistics
  std::vector<float> of_this;     // of the candidate in work
  int64_t best = 0;

  std::string Encode() const {
    std::string bytes;
    io::ByteWriter writer(bytes);
    writer.Put<int64_t>(candidate);
    writer.Put<int64_t>(best);
    writer.PutArray<double>(losses);
    writer.PutArray<float>(statistics);
    writer.PutArray<float>(of_this);
    return bytes;
  }

  static absl::StatusOr<Selection> Decode(std::string_view bytes) {
    io::ByteReader reader(bytes);
    Selection selection;
    selection.candidate = reader.Get<int64_t>();
    selection.best = reader.Get<int64_t>();
    selection.losses = reader.GetArray<double>();
    selection.statistics = reader.GetArray<float>();
    selection.of_this = reader.GetArray<float>();
    if (reader.ok() && reader.at_end()) return selection;
    return base::MakeError(absl::StatusCode::kDataLoss, "STATE_CORRUPT",
                           "the job's saved selection is damaged; start the job again");
  }

  // Takes the loss of the candidate in work; among equals the first stays.
  void Add(double loss) {
    losses.push_back(loss);
    if (candidate != 0 && !(loss < losses[best])) return;
    best = candidate;
    statistics = of_this;
  }
};

absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>>
FedTinyProgram::InitialStructure(const tensor::ModelLayout&) const {
  return absl::InternalError("fedtiny begins with its prelude");
}

absl::StatusOr<std::optional<Transition>> FedTinyProgram::StartPrelude() const {
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelState model, Candidate(0));
  ProgramState state;
  const bool alone = options_.pool_size == 1 && options_.selection == "vanilla";
  if (options_.selection == "first" || alone) {
    ESPALIER_ASSIGN_OR_RETURN(Transition transition, BeginTraining({}, std::move(model)));
    return std::optional(std::move(transition));
  }
  return std::optional(Compare(std::move(state), std::move(model), Selection()));
}

absl::StatusOr<Transition> FedTinyProgram::NextInPrelude(ProgramState state,
                                                         const reduce::Reduced& reduced) const {
  if (state.phase != kStatistics && state.phase != kLoss) {
    return GrowingProgram::NextInPrelude(std::move(state), reduced);
  }
  ESPALIER_ASSIGN_OR_RETURN(Selection selection, Selection::Decode(state.memory));
  const int64_t expected =
      state.phase == kStatistics ? wire::BufferValues(*state.model.topology) : 0;
  const std::span<const float> statistics = reduced.Section(v1::SECTION_KIND_RUNNING_STATISTICS);
  if (static_cast<int64_t>(statistics.size()) != expected) {
    return base::FailedPrecondition(
        "SHAPE_MISMATCH", fmt::format("expected {} values in phase {}, found {}", expected,
                                      state.phase, statistics.size()));
  }
  v1::PreludeStep done;
  done.set_phase(state.phase);
  done.set_candidate(static_cast<int32_t>(selection.candidate + 1));
  done.set_candidates(static_cast<int32_t>(options_.pool_size));
  const double loss =
      reduced.loss_sum / static_cast<double>(std::max<int64_t>(1, reduced.examples));
  if (state.phase == kLoss) done.set_loss(loss);
  ESPALIER_ASSIGN_OR_RETURN(Transition transition,
                            AfterSelectionStep(std::move(state), std::move(selection), reduced));
  transition.prelude_step = std::move(done);
  return transition;
}

absl::StatusOr<Transition> FedTinyProgram::AfterSelectionStep(
    ProgramState state, Selection selection, const reduce::Reduced& reduced) const {
  if (state.phase == kStatistics) {
    const auto statistics = reduced.Section(v1::SECTION_KIND_RUNNING_STATISTICS);
    selection.of_this.assign(statistics.begin(), statistics.end());
    if (options_.pooled_variance) {
      VariancesFromSecondMoments(*state.model.topology, selection.of_this);
    }
    SetStatistics(selection.of_this, state.model);
    // With nobody to compare with, the statistics are all that is wanted.
    if (options_.pool_size == 1) {
      tensor::ModelState model = state.model;
      return BeginTraining(std::move(state), std::move(model));
    }
    return MeasureLoss(std::move(state), selection);
  }
  selection.Add(reduced.loss_sum / static_cast<double>(std::max<int64_t>(1, reduced.examples)));
  return NextCandidate(std::move(state), std::move(selection));
}

absl::StatusOr<tensor::ModelState> FedTinyProgram::Candidate(int64_t number) const {
  ESPALIER_ASSIGN_OR_RETURN(const auto dense, OpenDenseSource(spec().model(), seed(), library()));
  return PoolCandidate(spec().model(), options_.density, seed(), number, *dense);
}

Transition FedTinyProgram::Compare(ProgramState state, tensor::ModelState model,
                                   Selection selection) const {
  ++state.topology_version;
  state.model = std::move(model);
  selection.of_this.clear();
  const bool has_statistics = wire::BufferValues(*state.model.topology) > 0;
  if (options_.selection == "vanilla" || !has_statistics) {
    return MeasureLoss(std::move(state), selection);
  }
  Step step;
  v1::CalibrateTask& task = *step.task.mutable_calibrate();
  task.set_batch_size(spec().training().batch_size());
  task.set_exponential(options_.exponential);
  task.set_passes(static_cast<int32_t>(options_.exponential ? options_.passes : 1));
  task.set_development_fraction(options_.development_fraction);
  task.set_second_moments(options_.pooled_variance);
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kMean;
  return Go(std::move(state), selection, kStatistics, std::move(step));
}

Transition FedTinyProgram::MeasureLoss(ProgramState state, const Selection& selection) const {
  Step step;
  v1::EvaluateTask& task = *step.task.mutable_evaluate();
  task.set_batch_size(spec().training().batch_size());
  task.set_development_fraction(options_.development_fraction);
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kMetrics;
  return Go(std::move(state), selection, kLoss, std::move(step));
}

Transition FedTinyProgram::Go(ProgramState state, const Selection& selection, const char* phase,
                              Step step) {
  state.phase = phase;
  step.prelude = true;
  state.memory = selection.Encode();
  Transition transition;
  transition.state = std::move(state);
  transition.state.step = std::move(step);
  return transition;
}

absl::StatusOr<Transition> FedTinyProgram::NextCandidate(ProgramState state,
                                                         Selection selection) const {
  ++selection.candidate;
  const bool more = selection.candidate < options_.pool_size;
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelState model,
                            Candidate(more ? selection.candidate : selection.best));
  if (more) return Compare(std::move(state), std::move(model), std::move(selection));
  if (!selection.statistics.empty()) SetStatistics(selection.statistics, model);
  return BeginTraining(std::move(state), std::move(model));
}

std::vector<int64_t> FedTinyProgram::UpdateCounts(const ProgramState& state) const {
  const tensor::ModelTopology& topology = *state.model.topology;
  std::vector<int64_t> counts(topology.num_tensors(), 0);
  const int64_t round = RoundInWork(state);
  if (!evolves() || round >= rounds() || round >= options_.stop_round ||
      round % options_.update_every != 0) {
    return counts;
  }
  const double fraction = sparsity::CosineAdjustFraction(options_.alpha, static_cast<double>(round),
                                                         static_cast<double>(options_.stop_round));
  for (const size_t i : Block(topology, round / options_.update_every - 1)) {
    // Rounded up, but not for the last bit of the product.
    const double wanted = fraction * static_cast<double>(topology.stored(i)) - 1e-9;
    counts[i] = std::min(static_cast<int64_t>(std::ceil(wanted)), InactivePositions(topology, i));
  }
  return counts;
}

std::vector<size_t> FedTinyProgram::Block(const tensor::ModelTopology& topology,
                                          int64_t index) const {
  std::vector<size_t> sparse;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (topology.is_sparse(i)) sparse.push_back(i);
  }
  const auto layers = static_cast<int64_t>(sparse.size());
  if (options_.progressive == "entire" || layers == 0) return sparse;
  const int64_t blocks =
      options_.progressive == "layer" ? layers : std::min(options_.blocks, layers);
  const int64_t turn = index % blocks;
  const int64_t block = options_.backward ? blocks - 1 - turn : turn;
  std::vector<size_t> chosen;
  for (int64_t k = 0; k < layers; ++k) {
    if (k * blocks / layers == block) chosen.push_back(sparse[k]);
  }
  return chosen;
}

}  // namespace espalier::server::methods
