#include "server/methods/training_program.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "common/base/status.h"
#include "common/config/metrics.h"
#include "common/config/validate.h"
#include "common/io/byte_codec.h"
#include "common/wire/compact_values.h"
#include "common/wire/model_spec/frozen.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/proto_time.h"
#include "server/methods/aggregation/aggregate.h"
#include "server/methods/calibration/statistics.h"
#include "server/methods/evaluation/metrics.h"
#include "server/methods/initial_values.h"
#include "server/methods/learning_rate.h"
#include "server/methods/start/optimizer_start.h"
#include "server/methods/start/trained_start.h"

namespace espalier::server::methods {
namespace {

constexpr char kTrain[] = "train";
constexpr char kRecalibrate[] = "recalibrate";
constexpr char kChannelStatistics[] = "channel_statistics";
// Of a mean; float32 cannot hold values that differ by less.
constexpr double kNoVariation = 1e-8;
// Sums are kept to 2^-84, so that this still has twelve binary digits when it was divided by 2^60.
constexpr double kExactWhenDivided = 0x1p-12;
constexpr char kEvaluateFederated[] = "evaluate_federated";
constexpr char kEvaluateCentral[] = "evaluate_central";
constexpr char kDone[] = "done";

// Evaluation keeps no gradients, so a batch of this size costs a network of linear layers no more
// memory than a training batch. Of images every layer keeps large maps: there, the training batch.
constexpr int32_t kMinEvaluationBatchSize = 128;

// `means`: as they are, which leaves out participants where they are out of range, and then divided
// by 2^60, which has few digits for what is small (ChannelStatisticsTask).
std::vector<double> Undivided(std::span<const float> means) {
  std::vector<double> result;
  const size_t size = means.size() / 2;
  for (size_t i = 0; i < size; ++i) {
    const double large = means[size + i] * 0x1p60;
    result.push_back(std::abs(large) > kExactWhenDivided ? large : means[i]);
  }
  return result;
}

// Describes the model as trained in the summary of the round in work.
void DescribeModel(const tensor::ModelTopology& topology, v1::RoundSummary& summary) {
  const int64_t size = topology.sparsifiable_size();
  summary.set_active_weights(topology.sparsifiable_stored());
  summary.set_density(size == 0 ? 1.0 : static_cast<double>(topology.sparsifiable_stored()) / size);
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const tensor::TensorSpec& tensor = topology.layout()[i];
    if (!tensor.sparsifiable) continue;
    v1::LayerSummary& layer = *summary.add_layers();
    layer.set_name(tensor.name);
    layer.set_active(topology.stored(i));
    layer.set_size(tensor.size());
  }
}

absl::StatusOr<tensor::ModelState> EmptyModel(std::shared_ptr<const tensor::ModelLayout> layout) {
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  for (const tensor::TensorSpec& tensor : *layout) {
    topologies.push_back(nullptr);
    if (!tensor.sparsifiable) continue;
    ESPALIER_ASSIGN_OR_RETURN(tensor::Topology empty,
                              tensor::Topology::FromPositions(tensor.rows, tensor.cols, {}));
    topologies.back() = std::make_shared<const tensor::Topology>(std::move(empty));
  }
  ESPALIER_ASSIGN_OR_RETURN(
      tensor::ModelTopology topology,
      tensor::ModelTopology::Create(std::move(layout), std::move(topologies)));
  tensor::ModelState model;
  model.topology = std::make_shared<const tensor::ModelTopology>(std::move(topology));
  model.values.assign(model.topology->total_stored(), 0.0F);
  return model;
}

void NotePeakMemory(const reduce::Reduced& reduced, v1::RoundSummary& summary) {
  summary.set_worker_peak_memory_bytes(
      std::max(summary.worker_peak_memory_bytes(), reduced.peak_memory_bytes));
}

}  // namespace

TrainingProgram::TrainingProgram(const v1::JobSpec& spec,
                                 std::shared_ptr<const pretrained::ModelLibrary> library)
    : spec_(spec), library_(std::move(library)) {
  config::ApplyDefaults(spec_);
  if (auto cost = wire::ModelCost::Create(spec_); cost.ok()) cost_ = *std::move(cost);
}

v1::Task TrainingProgram::MakeTask(const ProgramState& state) const {
  const int32_t round = RoundInWork(state);
  v1::Task task;
  v1::TrainTask& train = *task.mutable_train();
  *train.mutable_training() = spec_.training();
  train.set_learning_rate(spec_.training().optimizer().learning_rate() *
                          LearningRateFactor(spec_.training().schedule(), round, rounds()));
  train.set_first_step(state.earlier_steps +
                       static_cast<int64_t>(round - 1) * spec_.training().local_steps());
  const tensor::ModelTopology& topology = *state.model.topology;
  if (spec_.aggregation().pooled_variance() && wire::BufferValues(topology) > 0) {
    train.add_additions()->mutable_second_moments();
  }
  if (spec_.model().recommender().private_users()) {
    v1::PrivateUpdate& update = *train.add_additions()->mutable_private_update();
    if (round > 1) update = PrivateRule(round - 1);
    update.set_density(static_cast<double>(topology.sparsifiable_stored()) /
                       static_cast<double>(std::max<int64_t>(1, topology.sparsifiable_size())));
  }
  return task;
}

std::vector<float> TrainingProgram::GrownWeights(const ProgramState& state,
                                                 const StructureChange::Tensor& change) const {
  return std::vector<float>(change.diff.grown.size(), 0.0f);
}

bool TrainingProgram::IsEvaluated(int32_t round) const {
  if (!evaluates()) return false;
  return round == rounds() || round % spec_.evaluation().every_rounds() == 0;
}

// Error feedback (Seide et al. 2014; Karimireddy et al. 2019): what rounding leaves out is added
// to the next model before that one is rounded. The round's model is then what participants get,
// for everybody who compares with it.
void TrainingProgram::RoundForWire(ProgramState& state) const {
  const v1::SectionType type = wire::SectionTypeOf(spec_.wire().down());
  if (!wire::IsCompact(type)) return;
  std::vector<float>& values = state.model.values;
  if (state.server.unsent != nullptr) {
    for (size_t i = 0; i < values.size(); ++i) values[i] += (*state.server.unsent)[i];
  }
  std::vector<float> unsent = values;
  wire::RoundToNearest(*state.model.topology, type, values);
  for (size_t i = 0; i < values.size(); ++i) unsent[i] -= values[i];
  state.server.unsent = std::make_shared<const std::vector<float>>(std::move(unsent));
}

Step TrainingProgram::TrainStep(ProgramState& state) const {
  RoundForWire(state);
  state.phase = kTrain;
  state.pending.Clear();
  state.pending.set_round(RoundInWork(state));
  Step step;
  step.task = MakeTask(state);
  step.participants = Participants::kCohort;
  const bool readjusts = wire::HasAddition(step.task.train(), v1::TrainAddition::kReadjustment);
  step.reducer = readjusts ? reduce::ReducerKind::kOwnersMean : reduce::ReducerKind::kMean;
  step.aggregation = AggregationOf(spec_);
  step.round = RoundInWork(state);
  return step;
}

Step TrainingProgram::EvaluateStep(ProgramState& state, bool central) const {
  state.phase = central ? kEvaluateCentral : kEvaluateFederated;
  Step step;
  v1::EvaluateTask& task = *step.task.mutable_evaluate();
  const bool large = FamilyOf(spec_.model()).HasLargeExamples(spec_.model());
  const int32_t least = large ? 1 : kMinEvaluationBatchSize;
  task.set_batch_size(std::max(spec_.training().batch_size(), least));
  task.set_whole_test_split(central);
  *task.mutable_top_k() = spec_.evaluation().top_k();
  task.set_candidates(spec_.evaluation().candidates());
  for (const auto counts : CountsFor(spec_)) task.add_counts(counts);
  step.participants = central ? Participants::kAnyOne : Participants::kAll;
  step.reducer = reduce::ReducerKind::kMetrics;
  step.round = RoundInWork(state);
  return step;
}

absl::StatusOr<Transition> TrainingProgram::BeginTraining(ProgramState state,
                                                          tensor::ModelState model) const {
  const bool same =
      state.model.topology != nullptr && state.model.topology->hash() == model.topology->hash();
  if (!same) ++state.topology_version;
  ESPALIER_RETURN_IF_ERROR(CheckAggregationMemory(spec_, *model.topology));
  Transition transition;
  ESPALIER_ASSIGN_OR_RETURN(FirstOptimizerState optimizer,
                            OptimizerStateAtStart(spec_, *model.topology, library_.get()));
  model.optimizer_state = std::move(optimizer.numbers);
  state.earlier_steps = optimizer.start.steps;
  if (!spec_.model().pretrained().empty()) transition.optimizer_start = std::move(optimizer.start);
  state.model = std::move(model);
  state.model_spec = TrainedSpec();
  state.server = {};
  ESPALIER_ASSIGN_OR_RETURN(state.companions, CompanionsOf(spec_.model(), library_.get()));
  ESPALIER_ASSIGN_OR_RETURN(const ProgramMemory memory,
                            ProgramMemory::Begin(*state.model.topology, evolves()));
  state.memory = memory.Encode();
  state.step = TrainStep(state);
  transition.state = std::move(state);
  return transition;
}

absl::StatusOr<Transition> TrainingProgram::Start() const {
  const bool federated = spec_.data().normalization() == v1::DataSpec::NORMALIZATION_FEDERATED;
  return federated ? AskChannelStatistics("") : StartTraining();
}

absl::StatusOr<Transition> TrainingProgram::AskChannelStatistics(std::string centers) const {
  Transition transition;
  // A step needs some model; this one has no weights.
  ESPALIER_ASSIGN_OR_RETURN(auto layout, wire::LayoutOf(spec_.model()));
  ESPALIER_ASSIGN_OR_RETURN(transition.state.model, EmptyModel(std::move(layout)));
  transition.state.phase = kChannelStatistics;
  transition.state.memory = std::move(centers);
  Step step;
  step.task.mutable_channel_statistics();
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kMean;
  step.prelude = true;
  transition.state.step = std::move(step);
  return transition;
}

// Twice: the second time all differences are from the means of the first, since the square of a
// large number has no digits left for how it varies.
absl::StatusOr<Transition> TrainingProgram::AfterChannelStatistics(
    const ProgramState& state, const reduce::Reduced& reduced) const {
  const auto channels = static_cast<size_t>(wire::InputShape(spec_.model()).channels);
  const std::span<const float> values = reduced.Section(v1::SECTION_KIND_CHANNEL_STATISTICS);
  if (values.size() != 4 * channels) {
    return base::FailedPrecondition(
        "SHAPE_MISMATCH",
        fmt::format("expected {} statistics of channels, found {}", 4 * channels, values.size()));
  }
  const std::vector<double> distances = Undivided(values.first(2 * channels));
  if (state.memory.empty()) {
    std::string centers;
    io::ByteWriter(centers).PutArray(std::span<const double>(distances));
    ESPALIER_ASSIGN_OR_RETURN(Transition again, AskChannelStatistics(std::move(centers)));
    again.normalization = ChannelNormalization{distances, std::vector<double>(channels, 1.0)};
    again.prelude_step.emplace();
    again.prelude_step->set_phase(kChannelStatistics);
    return again;
  }
  const std::vector<double> squares = Undivided(values.last(2 * channels));
  io::ByteReader reader(state.memory);
  const std::vector<double> centers = reader.GetArray<double>();
  if (centers.size() != channels) {
    return base::FailedPrecondition(
        "SHAPE_MISMATCH",
        fmt::format("expected means of {} channels, found {}", channels, centers.size()));
  }
  ESPALIER_ASSIGN_OR_RETURN(Transition transition, StartTraining());
  transition.normalization = ChannelNormalization{};
  for (size_t c = 0; c < channels; ++c) {
    const double mean = centers[c] + distances[c];
    const double std = std::sqrt(std::max(0.0, squares[c] - distances[c] * distances[c]));
    transition.normalization->mean.push_back(mean);
    // A channel that never changes stays as it is, less its mean.
    transition.normalization->std.push_back(std > kNoVariation * std::abs(mean) ? std : 1.0);
  }
  transition.prelude_step.emplace();
  transition.prelude_step->set_phase(kChannelStatistics);
  return transition;
}

absl::StatusOr<Transition> TrainingProgram::StartTraining() const {
  ESPALIER_ASSIGN_OR_RETURN(std::optional<Transition> prelude, StartPrelude());
  if (prelude) return *std::move(prelude);
  ESPALIER_ASSIGN_OR_RETURN(auto layout, wire::LayoutOf(spec_.model()));
  ESPALIER_ASSIGN_OR_RETURN(auto topologies, InitialStructure(*layout));
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelTopology topology,
                            tensor::ModelTopology::Create(layout, std::move(topologies)));
  tensor::ModelState model;
  model.topology = std::make_shared<const tensor::ModelTopology>(std::move(topology));
  ESPALIER_ASSIGN_OR_RETURN(model.values, FirstValues(*model.topology));
  return BeginTraining({}, std::move(model));
}

absl::StatusOr<std::vector<float>> TrainingProgram::FirstValues(
    const tensor::ModelTopology& topology) const {
  if (!spec_.model().pretrained().empty()) return TrainedValues(spec_, topology, library_.get());
  return InitialValues(spec_.model(), topology, seed());
}

absl::StatusOr<Transition> TrainingProgram::Next(ProgramState state,
                                                 reduce::Reduced reduced) const {
  state.step.reset();
  if (state.phase == kTrain) return AfterTraining(std::move(state), std::move(reduced));
  if (state.phase == kChannelStatistics) return AfterChannelStatistics(state, reduced);
  if (state.phase == kRecalibrate) return AfterRecalibration(std::move(state), reduced);
  if (state.phase == kEvaluateFederated) {
    return AfterFederatedEvaluation(std::move(state), reduced);
  }
  if (state.phase == kEvaluateCentral) return AfterCentralEvaluation(std::move(state), reduced);
  return NextInPrelude(std::move(state), reduced);
}

absl::StatusOr<Transition> TrainingProgram::NextInPrelude(ProgramState state,
                                                          const reduce::Reduced&) const {
  return Done(state);
}

absl::Status TrainingProgram::Done(const ProgramState& state) const {
  return base::FailedPrecondition(
      "PROGRAM_DONE", fmt::format("expected a step in work, found the job in phase \"{}\" after "
                                  "round {} of {}",
                                  state.phase, state.round, rounds()));
}

absl::StatusOr<std::optional<StructureChange>> TrainingProgram::TakeTrained(
    ProgramState& state, reduce::Reduced& trained) const {
  const v1::Task task = MakeTask(state);
  const wire::LearnedPart learned(spec_.training(), *state.model.topology);
  std::vector<float> values = trained.Take(v1::SECTION_KIND_VALUES);
  if (static_cast<int64_t>(values.size()) != learned.stored()) {
    return base::FailedPrecondition(
        "SHAPE_MISMATCH",
        fmt::format("expected a mean of {} values, found {}", learned.stored(), values.size()));
  }
  state.model.optimizer_state = trained.Take(v1::SECTION_KIND_OPTIMIZER_STATE);
  if (!learned.is_whole()) {
    values = learned.In(values, state.model.values);
    const auto sets = static_cast<size_t>(wire::CarriedSlots(task));
    state.model.optimizer_state = learned.In(
        state.model.optimizer_state, std::vector<float>(sets * state.model.values.size(), 0.0F));
  }
  if (wire::HasAddition(task.train(), v1::TrainAddition::kSecondMoments)) {
    VariancesFromSecondMomentsIn(*state.model.topology, values);
  }
  ESPALIER_RETURN_IF_ERROR(FinishAggregation(spec_, task, state.model, std::move(trained.updates),
                                             values, state.server));
  state.model.values = std::move(values);
  return std::nullopt;
}

absl::StatusOr<Transition> TrainingProgram::AfterTraining(ProgramState state,
                                                          reduce::Reduced reduced) const {
  const bool last = RoundInWork(state) == rounds();
  const std::string notes = last ? "" : NotesOf(state);
  ESPALIER_ASSIGN_OR_RETURN(std::optional<StructureChange> change, TakeTrained(state, reduced));
  v1::RoundSummary& summary = state.pending;
  summary.set_participants(reduced.participants);
  summary.set_examples(reduced.examples);
  summary.set_train_loss(reduced.loss_sum / static_cast<double>(reduced.examples));
  NotePeakMemory(reduced, summary);
  NoteCosts(reduced, state);

  if (last) {
    ESPALIER_ASSIGN_OR_RETURN(const Evolution removal, FinalRemoval(state));
    if (!removal.empty()) {
      ESPALIER_ASSIGN_OR_RETURN(change, Change(removal, state));
    }
    state.model_spec = nullptr;
  } else if (evolves()) {
    ESPALIER_ASSIGN_OR_RETURN(ProgramMemory memory, ProgramMemory::Decode(state.memory));
    if (change) {
      summary.set_weights_changed(DroppedWeights(change->tensors));
      ESPALIER_RETURN_IF_ERROR(memory.Explore(*state.model.topology));
    }
    memory.notes = notes;
    state.memory = memory.Encode();
    if (!change) {
      ESPALIER_ASSIGN_OR_RETURN(std::optional<Transition> question, AskBeforePlanning(state));
      if (question) return *std::move(question);
      return PlanAndProceed(std::move(state), reduced);
    }
  }
  ESPALIER_ASSIGN_OR_RETURN(Transition transition, Proceed(std::move(state)));
  transition.structure_change = std::move(change);
  return transition;
}

absl::StatusOr<Transition> TrainingProgram::PlanAndProceed(ProgramState state,
                                                           const reduce::Reduced& trained) const {
  ESPALIER_ASSIGN_OR_RETURN(ProgramMemory memory, ProgramMemory::Decode(state.memory));
  ESPALIER_ASSIGN_OR_RETURN(memory.planned, PlanFromMemory(state, trained, memory.own));
  memory.notes.clear();
  state.memory = memory.Encode();
  return Proceed(std::move(state));
}

void TrainingProgram::NoteCosts(const reduce::Reduced& reduced, ProgramState& state) const {
  const tensor::ModelTopology& topology = *state.model.topology;
  std::vector<int64_t> stored;
  stored.reserve(topology.num_tensors());
  for (size_t i = 0; i < topology.num_tensors(); ++i) stored.push_back(topology.stored(i));
  const auto flops =
      cost_.OfRound(MakeTask(state).train(), stored, reduced.participants, reduced.examples);
  state.pending.set_train_flops(flops.actual);
  state.pending.set_dense_train_flops(flops.dense);
  wire::SetDuration(absl::Seconds(reduced.compute_seconds), state.pending.mutable_compute_time());
}

void TrainingProgram::DescribeEvaluation(const reduce::Reduced& reduced, bool central,
                                         v1::RoundSummary& summary) const {
  NotePeakMemory(reduced, summary);
  if (reduced.examples == 0) return;
  SetMetrics(spec_, MetricsOf(spec_, reduced), central, summary);
  const config::TargetKind target = config::TargetOf(spec_);
  if (target == config::TargetKind::kPair) return;
  const auto examples = static_cast<double>(reduced.examples);
  const double loss = reduced.loss_sum / examples;
  const double accuracy = static_cast<double>(reduced.correct) / examples;
  const bool is_token = target == config::TargetKind::kToken;
  const bool has_accuracy = is_token || target == config::TargetKind::kClass;
  if (central) {
    summary.set_test_loss(loss);
    if (has_accuracy) summary.set_test_accuracy(accuracy);
  } else {
    summary.set_federated_test_loss(loss);
    if (has_accuracy) summary.set_federated_test_accuracy(accuracy);
  }
  // The central one, of all the test data, comes last and stays. One that has no finite value says
  // no more than the loss.
  const double perplexity = std::exp(loss);
  if (is_token && std::isfinite(perplexity)) summary.set_perplexity(perplexity);
}

absl::StatusOr<Transition> TrainingProgram::AfterFederatedEvaluation(
    ProgramState state, const reduce::Reduced& reduced) const {
  DescribeEvaluation(reduced, /*central=*/false, state.pending);
  return Evaluate(std::move(state), false);
}

absl::StatusOr<Transition> TrainingProgram::AfterCentralEvaluation(
    ProgramState state, const reduce::Reduced& reduced) const {
  DescribeEvaluation(reduced, /*central=*/true, state.pending);
  return Commit(std::move(state));
}

bool TrainingProgram::IsRecalibrated(const ProgramState& state) const {
  const auto when = spec_.evaluation().recalibration();
  if (wire::BufferValues(*state.model.topology) == 0) return false;
  const int32_t round = RoundInWork(state);
  if (when == v1::Evaluation::RECALIBRATION_EVERY) return IsEvaluated(round);
  return when == v1::Evaluation::RECALIBRATION_LAST && round == rounds();
}

absl::StatusOr<Transition> TrainingProgram::Proceed(ProgramState state) const {
  if (!IsRecalibrated(state)) return Evaluate(std::move(state), true);
  state.phase = kRecalibrate;
  Transition transition;
  Step step;
  v1::CalibrateTask& task = *step.task.mutable_calibrate();
  task.set_batch_size(spec_.training().batch_size());
  task.set_passes(1);
  task.set_development_fraction(1);
  task.set_second_moments(spec_.evaluation().pooled_variance());
  step.participants = Participants::kAll;
  step.reducer = reduce::ReducerKind::kMean;
  step.round = RoundInWork(state);
  transition.state = std::move(state);
  transition.state.step = std::move(step);
  return transition;
}

absl::StatusOr<Transition> TrainingProgram::AfterRecalibration(
    ProgramState state, const reduce::Reduced& reduced) const {
  const int64_t expected = wire::BufferValues(*state.model.topology);
  const std::span<const float> means = reduced.Section(v1::SECTION_KIND_RUNNING_STATISTICS);
  if (static_cast<int64_t>(means.size()) != expected) {
    return base::FailedPrecondition(
        "SHAPE_MISMATCH",
        fmt::format("expected {} running statistics, found {}", expected, means.size()));
  }
  std::vector<float> statistics(means.begin(), means.end());
  if (spec_.evaluation().pooled_variance()) {
    VariancesFromSecondMoments(*state.model.topology, statistics);
  }
  SetStatistics(statistics, state.model);
  NotePeakMemory(reduced, state.pending);
  return Evaluate(std::move(state), true);
}

absl::StatusOr<Transition> TrainingProgram::Evaluate(ProgramState state, bool first) const {
  if (!IsEvaluated(RoundInWork(state))) return Commit(std::move(state));
  const v1::Evaluation& evaluation = spec_.evaluation();
  const bool federated = first && evaluation.federated();
  if (!federated && !evaluation.central()) return Commit(std::move(state));
  state.step = EvaluateStep(state, /*central=*/!federated);
  Transition transition;
  transition.state = std::move(state);
  return transition;
}

absl::StatusOr<StructureChange> TrainingProgram::Change(const Evolution& evolution,
                                                        ProgramState& state) const {
  StructureChange change{state.model.topology, evolution};
  ESPALIER_ASSIGN_OR_RETURN(
      state.model, Evolve(state.model, evolution, [&](const StructureChange::Tensor& tensor) {
        return GrownWeights(state, tensor);
      }));
  CarryOver(change.base, state.model.topology, evolution, state.server);
  ++state.topology_version;
  state.pending.set_weights_changed(DroppedWeights(evolution));
  return change;
}

std::shared_ptr<const tensor::ModelState> TrainingProgram::CheckpointOf(
    const ProgramState& state) const {
  tensor::ModelState model{state.model.topology, state.model.values, {}};
  // Nobody could read that of other models.
  if (FamilyOf(spec_.model()).Offers(ModelNeed::kTrainedStart)) {
    model.optimizer_state = state.model.optimizer_state;
  }
  return std::make_shared<const tensor::ModelState>(std::move(model));
}

int64_t TrainingProgram::OptimizerSteps(const ProgramState& state) const {
  const v1::Training& training = spec_.training();
  const int64_t round = RoundInWork(state);
  if (training.local_steps() > 0) return state.earlier_steps + round * training.local_steps();
  // With epochs, participants do as many steps as they have minibatches. Moments, to which steps
  // count, cross rounds with one participant only, of whom all rounds have the same examples.
  if (training.optimizer().kind() != v1::Optimizer::KIND_ADAM) return 0;
  const int64_t rows = FamilyOf(spec_.model()).CostOf(spec_.model(), spec_.data()).tokens;
  const int64_t examples = state.pending.examples() / std::max<int64_t>(1, rows);
  const int64_t batch = std::max(1, training.batch_size());
  const int64_t epochs = std::max(1, training.local_epochs());
  return state.earlier_steps + round * epochs * ((examples + batch - 1) / batch);
}

absl::StatusOr<Transition> TrainingProgram::Commit(ProgramState state) const {
  Transition transition;
  ESPALIER_ASSIGN_OR_RETURN(ProgramMemory memory, ProgramMemory::Decode(state.memory));
  DescribeModel(*state.model.topology, state.pending);
  state.pending.set_explored(memory.explored);
  transition.checkpoint = CheckpointOf(state);
  if (!transition.checkpoint->optimizer_state.empty()) {
    transition.optimizer_steps = OptimizerSteps(state);
  }
  if (RoundInWork(state) == rounds()) transition.features = Features(state);
  if (!memory.planned.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(transition.structure_change, Change(memory.planned, state));
    memory.planned.clear();
    ESPALIER_RETURN_IF_ERROR(memory.Explore(*state.model.topology));
    state.memory = memory.Encode();
  }
  transition.committed = state.pending;
  state.round = RoundInWork(state);
  transition.model_spec = state.model_spec;
  transition.ends_run = state.round == rounds();
  if (state.round < rounds()) {
    state.step = TrainStep(state);
  } else {
    state.phase = kDone;
  }
  transition.state = std::move(state);
  return transition;
}

}  // namespace espalier::server::methods
