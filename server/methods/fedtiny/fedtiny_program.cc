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

// What is remembered while candidates are compared; the best one's model is ProgramState::kept.
struct FedTinyProgram::Selection {
  int64_t first = 0;           // number of the first candidate in work
  std::vector<double> losses;  // of those before it
  int64_t best = 0;

  std::string Encode() const {
    std::string bytes;
    io::ByteWriter writer(bytes);
    writer.Put<int64_t>(first);
    writer.Put<int64_t>(best);
    writer.PutArray<double>(losses);
    return bytes;
  }

  static absl::StatusOr<Selection> Decode(std::string_view bytes) {
    io::ByteReader reader(bytes);
    Selection selection;
    selection.first = reader.Get<int64_t>();
    selection.best = reader.Get<int64_t>();
    selection.losses = reader.GetArray<double>();
    if (reader.ok() && reader.at_end()) return selection;
    return base::MakeError(absl::StatusCode::kDataLoss, "STATE_CORRUPT",
                           "the job's saved selection is damaged; start the job again");
  }

  // Takes the loss of the next candidate, and returns whether it is the best so far; among equals
  // the first stays.
  bool Add(double loss) {
    losses.push_back(loss);
    if (losses.size() > 1 && !(loss < losses[best])) return false;
    best = static_cast<int64_t>(losses.size()) - 1;
    return true;
  }
};

absl::StatusOr<std::optional<Transition>> FedTinyProgram::StartPrelude() const {
  const bool alone = options_.pool_size == 1 && options_.selection == "vanilla";
  if (options_.selection == "first" || alone) {
    ESPALIER_ASSIGN_OR_RETURN(tensor::ModelState model, Candidate(0));
    ESPALIER_ASSIGN_OR_RETURN(Transition transition, BeginTraining({}, std::move(model)));
    return std::optional(std::move(transition));
  }
  ESPALIER_ASSIGN_OR_RETURN(Transition transition, Compare({}, Selection()));
  return std::optional(std::move(transition));
}

absl::StatusOr<tensor::ModelState> FedTinyProgram::Candidate(int64_t number) const {
  ESPALIER_ASSIGN_OR_RETURN(const auto dense, OpenDenseSource(spec().model(), seed(), library()));
  return PoolCandidate(spec().model(), options_.density, seed(), number, *dense);
}

absl::StatusOr<Transition> FedTinyProgram::Compare(ProgramState state,
                                                   const Selection& selection) const {
  state.runs.clear();
  state.phase = kStatistics;
  const int64_t end = std::min(selection.first + kCandidatesAtOnce, options_.pool_size);
  for (int64_t number = selection.first; number < end; ++number) {
    ProgramState candidate;
    candidate.run = fmt::format("candidate-{}", number + 1);
    candidate.topology_version = 1;
    ESPALIER_ASSIGN_OR_RETURN(candidate.model, Candidate(number));
    const bool has_statistics = wire::BufferValues(*candidate.model.topology) > 0;
    if (options_.selection == "vanilla" || !has_statistics) {
      state.phase = kLoss;
      candidate.step = LossStep();
    } else {
      candidate.step = StatisticsStep();
    }
    state.runs.push_back(std::move(candidate));
  }
  state.memory = selection.Encode();
  Transition transition;
  transition.state = std::move(state);
  return transition;
}

Step FedTinyProgram::StatisticsStep() const {
  Step step;
  v1::CalibrateTask& task = *step.task.mutable_calibrate();
  task.set_batch_size(spec().training().batch_size());
  task.set_exponential(options_.exponential);
  task.set_passes(static_cast<int32_t>(options_.exponential ? options_.passes : 1));
  task.set_development_fraction(options_.development_fraction);
  task.set_second_moments(options_.pooled_variance);
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kMean;
  step.prelude = true;
  return step;
}

Step FedTinyProgram::LossStep() const {
  Step step;
  v1::EvaluateTask& task = *step.task.mutable_evaluate();
  task.set_batch_size(spec().training().batch_size());
  task.set_development_fraction(options_.development_fraction);
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kMetrics;
  step.prelude = true;
  return step;
}

absl::StatusOr<Transition> FedTinyProgram::NextOfRuns(ProgramState state,
                                                      std::vector<reduce::Reduced> reduced) const {
  ESPALIER_ASSIGN_OR_RETURN(const Selection selection, Selection::Decode(state.memory));
  const bool measured = state.phase == kLoss;
  std::vector<Outcome> outcomes(state.runs.size());
  for (size_t i = 0; i < state.runs.size(); ++i) {
    const int64_t expected = measured ? 0 : wire::BufferValues(*state.runs[i].model.topology);
    const auto found = reduced[i].Section(v1::SECTION_KIND_RUNNING_STATISTICS);
    if (static_cast<int64_t>(found.size()) != expected) {
      return base::FailedPrecondition(
          "SHAPE_MISMATCH", fmt::format("expected {} values in phase {}, found {}", expected,
                                        state.phase, found.size()));
    }
    outcomes[i].run = state.runs[i].run;
    v1::PreludeStep& done = outcomes[i].prelude_step.emplace();
    done.set_phase(state.phase);
    done.set_candidate(static_cast<int32_t>(selection.first + static_cast<int64_t>(i) + 1));
    done.set_candidates(static_cast<int32_t>(options_.pool_size));
    if (measured) done.set_loss(LossOf(reduced[i]));
  }
  ESPALIER_ASSIGN_OR_RETURN(Transition transition,
                            measured ? AfterLosses(std::move(state), selection, reduced)
                                     : AfterStatistics(std::move(state), reduced));
  transition.of_runs = std::move(outcomes);
  return transition;
}

double FedTinyProgram::LossOf(const reduce::Reduced& reduced) {
  return reduced.loss_sum / static_cast<double>(std::max<int64_t>(1, reduced.examples));
}

absl::StatusOr<Transition> FedTinyProgram::AfterStatistics(
    ProgramState state, const std::vector<reduce::Reduced>& reduced) const {
  for (size_t i = 0; i < state.runs.size(); ++i) {
    tensor::ModelState& model = state.runs[i].model;
    const auto found = reduced[i].Section(v1::SECTION_KIND_RUNNING_STATISTICS);
    std::vector<float> statistics(found.begin(), found.end());
    if (options_.pooled_variance) VariancesFromSecondMoments(*model.topology, statistics);
    SetStatistics(statistics, model);
    state.runs[i].step = LossStep();
  }
  // With nobody to compare with, the statistics are all that is wanted.
  if (options_.pool_size == 1) {
    tensor::ModelState model = std::move(state.runs.front().model);
    return BeginTraining({}, std::move(model));
  }
  state.phase = kLoss;
  Transition transition;
  transition.state = std::move(state);
  return transition;
}

absl::StatusOr<Transition> FedTinyProgram::AfterLosses(
    ProgramState state, Selection selection, const std::vector<reduce::Reduced>& reduced) const {
  for (size_t i = 0; i < state.runs.size(); ++i) {
    if (selection.Add(LossOf(reduced[i]))) {
      state.kept = std::make_shared<const tensor::ModelState>(std::move(state.runs[i].model));
    }
  }
  selection.first += static_cast<int64_t>(state.runs.size());
  if (selection.first < options_.pool_size) return Compare(std::move(state), selection);
  return BeginTraining({}, *state.kept);
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
