// fedtiny: a pool of pruned candidates, chosen by recalibrated batch normalisation, then trained
// with progressive pruning (Huang et al., ICDCS 2023).
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "common/base/status.h"
#include "common/sparsity/schedule.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/builtin.h"
#include "server/methods/byte_codec.h"
#include "server/methods/fedtiny/candidate_pool.h"
#include "server/methods/gradient_growth.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

constexpr char kStatistics[] = "select_statistics";
constexpr char kLoss[] = "select_loss";

struct FedTinyOptions {
  double density;
  int64_t pool_size;
  std::string selection;  // adaptive, vanilla or first
  bool exponential;       // statistics by the layers' momentum, else exact averages
  int64_t passes;
  double development_fraction;
  bool pooled_variance;
  std::string progressive;  // block, layer, entire or none
  bool backward;
  int64_t blocks;
  double alpha;
  int64_t update_every;
  int64_t stop_round;
  int64_t growth_batches;
};

// What is remembered while candidates are compared.
struct Selection {
  int64_t candidate = 0;          // in work
  std::vector<double> losses;     // of those before it
  std::vector<float> statistics;  // of the best so far: its running statistics
  std::vector<float> of_this;     // of the candidate in work
  int64_t best = 0;

  std::string Encode() const {
    std::string bytes;
    ByteWriter writer(bytes);
    writer.Put<int64_t>(candidate);
    writer.Put<int64_t>(best);
    writer.PutArray<double>(losses);
    writer.PutArray<float>(statistics);
    writer.PutArray<float>(of_this);
    return bytes;
  }

  static absl::StatusOr<Selection> Decode(std::string_view bytes) {
    ByteReader reader(bytes);
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

// Puts running statistics, in layout order, where the model has them.
void SetStatistics(std::span<const float> statistics, tensor::ModelState& model) {
  size_t next = 0;
  for (size_t i = 0; i < model.topology->num_tensors(); ++i) {
    if (!model.topology->layout()[i].buffer) continue;
    for (float& value : model.tensor(i)) value = statistics[next++];
  }
}

// Means of variance + mean² become variances: the pooled variance over participants.
void VariancesFromSecondMoments(const tensor::ModelTopology& topology,
                                std::vector<float>& statistics) {
  size_t mean = 0;
  size_t next = 0;
  bool is_variance = false;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].buffer) continue;
    for (int64_t k = 0; k < topology.stored(i) && is_variance; ++k) {
      float& variance = statistics[next + k];
      variance = std::max(0.0F, variance - statistics[mean + k] * statistics[mean + k]);
    }
    mean = next;
    next += topology.stored(i);
    is_variance = !is_variance;
  }
}

class FedTinyProgram : public TrainingProgram {
 public:
  FedTinyProgram(const v1::JobSpec& spec, FedTinyOptions options)
      : TrainingProgram(spec), options_(std::move(options)) {}

 protected:
  bool evolves() const override { return options_.progressive != "none"; }

  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout&) const override {
    return absl::InternalError("fedtiny begins with its prelude");
  }

  absl::StatusOr<std::optional<Transition>> StartPrelude() const override {
    ESPALIER_ASSIGN_OR_RETURN(tensor::ModelState model, Candidate(0));
    ProgramState state;
    const bool alone = options_.pool_size == 1 && options_.selection == "vanilla";
    if (options_.selection == "first" || alone) {
      ESPALIER_ASSIGN_OR_RETURN(Transition transition, BeginTraining({}, std::move(model)));
      return std::optional(std::move(transition));
    }
    return std::optional(Compare(std::move(state), std::move(model), Selection()));
  }

  absl::StatusOr<Transition> NextInPrelude(ProgramState state,
                                           const reduce::Reduced& reduced) const override {
    if (state.phase != kStatistics && state.phase != kLoss) return Done(state);
    ESPALIER_ASSIGN_OR_RETURN(Selection selection, Selection::Decode(state.memory));
    const int64_t expected =
        state.phase == kStatistics ? wire::BufferValues(*state.model.topology) : 0;
    if (static_cast<int64_t>(reduced.values.size()) != expected) {
      return base::FailedPrecondition(
          "SHAPE_MISMATCH", fmt::format("expected {} values in phase {}, found {}", expected,
                                        state.phase, reduced.values.size()));
    }
    if (state.phase == kStatistics) {
      selection.of_this = reduced.values;
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

  v1::Task MakeTask(const ProgramState& state) const override {
    v1::Task task = TrainingProgram::MakeTask(state);
    AskForCandidates(*state.model.topology, UpdateCounts(state), 1, options_.growth_batches,
                     *task.mutable_train());
    return task;
  }

  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced& trained) const override {
    return PlanGradientGrowth(state.model, UpdateCounts(state), trained);
  }

 private:
  absl::StatusOr<tensor::ModelState> Candidate(int64_t number) const {
    return PoolCandidate(spec().model(), options_.density, seed(), number);
  }

  // First step for a candidate: its running statistics, or at once its loss where it has none or
  // the initial ones are to be used.
  Transition Compare(ProgramState state, tensor::ModelState model, Selection selection) const {
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

  Transition MeasureLoss(ProgramState state, const Selection& selection) const {
    Step step;
    v1::EvaluateTask& task = *step.task.mutable_evaluate();
    task.set_batch_size(spec().training().batch_size());
    task.set_development_fraction(options_.development_fraction);
    step.participants = Participants::kAll;
    step.reducer = reduce::ReducerKind::kMetrics;
    return Go(std::move(state), selection, kLoss, std::move(step));
  }

  static Transition Go(ProgramState state, const Selection& selection, const char* phase,
                       Step step) {
    state.phase = phase;
    state.memory = selection.Encode();
    Transition transition;
    transition.state = std::move(state);
    transition.step = std::move(step);
    return transition;
  }

  absl::StatusOr<Transition> NextCandidate(ProgramState state, Selection selection) const {
    ++selection.candidate;
    const bool more = selection.candidate < options_.pool_size;
    ESPALIER_ASSIGN_OR_RETURN(tensor::ModelState model,
                              Candidate(more ? selection.candidate : selection.best));
    if (more) return Compare(std::move(state), std::move(model), std::move(selection));
    if (!selection.statistics.empty()) SetStatistics(selection.statistics, model);
    return BeginTraining(std::move(state), std::move(model));
  }

  // How many weights of each tensor are replaced after the round in work: those of one block, from
  // the output backwards, every `update_every` rounds.
  std::vector<int64_t> UpdateCounts(const ProgramState& state) const {
    const tensor::ModelTopology& topology = *state.model.topology;
    std::vector<int64_t> counts(topology.num_tensors(), 0);
    const int64_t round = RoundInWork(state);
    if (!evolves() || round >= rounds() || round >= options_.stop_round ||
        round % options_.update_every != 0) {
      return counts;
    }
    const double fraction = sparsity::CosineAdjustFraction(
        options_.alpha, static_cast<double>(round), static_cast<double>(options_.stop_round));
    for (const size_t i : Block(topology, round / options_.update_every - 1)) {
      // Rounded up, but not for the last bit of the product.
      const double wanted = fraction * static_cast<double>(topology.stored(i)) - 1e-9;
      counts[i] = std::min(static_cast<int64_t>(std::ceil(wanted)), InactivePositions(topology, i));
    }
    return counts;
  }

  // The sparse tensors that adjustment `index` (from 0) may change.
  std::vector<size_t> Block(const tensor::ModelTopology& topology, int64_t index) const {
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

  FedTinyOptions options_;
};

config::Parameter Whole(const char* name, int64_t value, double min, double max, const char* doc) {
  return {.name = name, .default_value = value, .doc = doc, .min = min, .max = max, .choices = {}};
}

config::Parameter Word(const char* name, const char* value, std::vector<std::string> choices,
                       const char* doc) {
  return {
      .name = name, .default_value = std::string(value), .doc = doc, .choices = std::move(choices)};
}

config::ParameterSchema FedTinyParameters() {
  return {
      {.name = "density",
       .default_value = 0.01,
       .doc = "Active weights / weights, over all sparsifiable layers.",
       .min = 0,
       .max = 1,
       .min_exclusive = true,
       .choices = {}},
      Whole("pool_size", 10, 1, 1000, "Candidates that are compared."),
      Word("selection", "adaptive", {"adaptive", "vanilla", "first"},
           "How a candidate is chosen: by its loss with running statistics of the participants "
           "(adaptive), by its loss as it is (vanilla), or candidate 0 without a comparison."),
      Word(
          "statistics", "cumulative", {"cumulative", "exponential"},
          "Running statistics of the development set: its exact averages (cumulative), or moved by "
          "the layers' momentum from 0 and 1 (exponential, the published code's)."),
      Whole("passes", 5, 1, 1000, "Passes over the development set with exponential statistics."),
      {.name = "development_fraction",
       .default_value = 0.1,
       .doc = "Share of a participant's training examples by which candidates are compared; at "
              "least one batch.",
       .min = 0,
       .max = 1,
       .min_exclusive = true,
       .choices = {}},
      Word("bn_variance", "linear", {"linear", "pooled"},
           "How participants' variances are merged: their mean (linear, the paper's), or with "
           "the differences between their means (pooled)."),
      Word("progressive", "block", {"block", "layer", "entire", "none"},
           "What one adjustment changes: a block of layers, one layer, all of them, or nothing "
           "ever."),
      Word("order", "backward", {"backward", "forward"},
           "Blocks or layers take turns from the output to the input, or the other way."),
      Whole("blocks", 5, 1, 1000,
            "Groups of neighbouring sparse layers; at most as many as there are layers."),
      {.name = "alpha",
       .default_value = 0.3,
       .doc = "Share of a layer's weights that an adjustment at round 0 would replace; it falls "
              "with half a cosine to 0 at stop_round.",
       .min = 0,
       .max = 1,
       .choices = {}},
      Whole("update_every", 10, 1, 1000000, "Rounds between two adjustments."),
      Whole("stop_round", 100, 1, 1000000,
            "Round from which on the structure stays; the job's rounds if they are fewer."),
      Whole("growth_batches", 1, 1, 10000,
            "Minibatches over which a worker averages the growth gradient."),
  };
}

void ValidateFedTiny(const v1::JobSpec& spec, const config::Parameters& parameters,
                     std::vector<config::Violation>& violations) {
  if (spec.model().has_recommender()) {
    violations.push_back({"model.recommender",
                          "fedtiny chooses candidates by batch normalisation, which recommenders "
                          "have none of; use dsl, set, rigl, static or dense"});
    return;
  }
  // Every candidate looks through the dense model once.
  constexpr int64_t kMaxPositions = int64_t{1} << 31;
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok()) return;
  int64_t positions = 0;
  for (const tensor::TensorSpec& tensor : **layout) {
    positions += std::min(tensor.size(), kMaxPositions);
  }
  if (positions > kMaxPositions) {
    violations.push_back(
        {"model.layers", fmt::format("fedtiny prunes a dense model of at most {} weights, found "
                                     "more; use a smaller model, or method rigl",
                                     kMaxPositions)});
    return;
  }
  const int64_t layers = std::ranges::count_if(
      **layout, [](const tensor::TensorSpec& tensor) { return tensor.sparsifiable; });
  if (layers == 0) {
    violations.push_back({"method.name",
                          "every layer of the model is marked dense, so there is nothing to prune; "
                          "use method dense, or unmark a layer"});
    return;
  }
  const Budget budget{.distribution = "erk", .density = parameters.Double("density")};
  if (const auto counts = StoredCounts(**layout, budget); !counts.ok()) {
    violations.push_back({"method.parameters.density", base::MessageOf(counts.status())});
  }
  if (IsGiven(spec, "blocks") && parameters.Int("blocks") > layers) {
    violations.push_back({"method.parameters.blocks",
                          fmt::format("the model has {} sparsifiable layers, found {} blocks; use "
                                      "at most as many blocks as layers",
                                      layers, parameters.Int("blocks"))});
  }
}

std::unique_ptr<Program> MakeFedTiny(const v1::JobSpec& spec,
                                     const config::Parameters& parameters) {
  return std::make_unique<FedTinyProgram>(
      spec, FedTinyOptions{.density = parameters.Double("density"),
                           .pool_size = parameters.Int("pool_size"),
                           .selection = parameters.Choice("selection"),
                           .exponential = parameters.Choice("statistics") == "exponential",
                           .passes = parameters.Int("passes"),
                           .development_fraction = parameters.Double("development_fraction"),
                           .pooled_variance = parameters.Choice("bn_variance") == "pooled",
                           .progressive = parameters.Choice("progressive"),
                           .backward = parameters.Choice("order") == "backward",
                           .blocks = parameters.Int("blocks"),
                           .alpha = parameters.Double("alpha"),
                           .update_every = parameters.Int("update_every"),
                           .stop_round = std::min<int64_t>(parameters.Int("stop_round"),
                                                           spec.federation().rounds()),
                           .growth_batches = parameters.Int("growth_batches")});
}

}  // namespace

MethodDeclaration FedTinyMethod() {
  return {.name = "fedtiny",
          .summary =
              "FedTiny: choose a pruned candidate by recalibrated batch norm, then prune and "
              "grow block by block.",
          .source =
              "Huang et al., Distributed pruning towards tiny neural networks in federated "
              "learning, ICDCS 2023",
          .parameters = FedTinyParameters(),
          .validate = ValidateFedTiny,
          .make = MakeFedTiny};
}

}  // namespace espalier::server::methods
