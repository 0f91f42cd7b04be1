// prunefl: PruneFL (Jiang et al., TNNLS 2022): pruning at one participant, then adjustments of the
// averaged model by what each weight brings per unit of time.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/gradual/adjustment.h"
#include "server/methods/gradual/weight_costs.h"
#include "server/methods/initial_values.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

constexpr char kInitial[] = "select_initial";
// Adjusting at one participant begins when it is right so much more often than by chance.
constexpr double kBetterThanChance = 1.5;
// That stage ends after so many adjustments in a row that change the size by no more than that.
constexpr int64_t kStableAdjustments = 5;
constexpr double kStableChange = 0.1;

struct PruneFlOptions {
  bool random_start;
  Budget start;  // of a random start
  double max_density;
  int64_t update_every;
  int64_t importance_rounds;
  double drop_fraction;
  double drop_half_life;
  double base_cost;
  bool measures_base;  // from workers' times, once that is possible
  double weight_cost;
  double operation_cost;
  int64_t initial_adjustments;
  int64_t initial_updates;
  int64_t initial_sum;
  int64_t initial_examples;
};

// What is remembered from round to round.
struct RoundMemory {
  CostFit fit;
  std::vector<float> importance;  // since the last adjustment; or none

  std::string Encode() const {
    std::string bytes;
    io::ByteWriter writer(bytes);
    writer.Put<int64_t>(fit.rounds);
    for (const double value : {fit.mean_cost, fit.mean_seconds, fit.squares, fit.products}) {
      writer.Put<double>(value);
    }
    writer.PutArray<float>(importance);
    return bytes;
  }

  static absl::StatusOr<RoundMemory> Decode(std::string_view bytes) {
    RoundMemory memory;
    if (bytes.empty()) return memory;
    io::ByteReader reader(bytes);
    memory.fit.rounds = reader.Get<int64_t>();
    for (double* value : {&memory.fit.mean_cost, &memory.fit.mean_seconds, &memory.fit.squares,
                          &memory.fit.products}) {
      *value = reader.Get<double>();
    }
    memory.importance = reader.GetArray<float>();
    if (reader.ok() && reader.at_end()) return memory;
    return base::MakeError(absl::StatusCode::kDataLoss, "STATE_CORRUPT",
                           "the job's saved importance is damaged; start the job again");
  }

  absl::Status Add(std::span<const float> more) {
    if (importance.empty()) importance.assign(more.size(), 0.0F);
    if (importance.size() != more.size()) {
      return base::MakeError(absl::StatusCode::kDataLoss, "STATE_CORRUPT",
                             "the job's saved importance is damaged; start the job again");
    }
    for (size_t i = 0; i < more.size(); ++i) importance[i] += more[i];
    return absl::OkStatus();
  }
};

// How far pruning at one participant has come.
struct InitialStage {
  int64_t periods = 0;
  bool adjusts = false;
  int64_t stable = 0;

  std::string Encode() const {
    std::string bytes;
    io::ByteWriter writer(bytes);
    writer.Put<int64_t>(periods);
    writer.Put<uint8_t>(adjusts ? 1 : 0);
    writer.Put<int64_t>(stable);
    return bytes;
  }

  static absl::StatusOr<InitialStage> Decode(std::string_view bytes) {
    io::ByteReader reader(bytes);
    InitialStage stage;
    stage.periods = reader.Get<int64_t>();
    stage.adjusts = reader.Get<uint8_t>() != 0;
    stage.stable = reader.Get<int64_t>();
    if (reader.ok() && reader.at_end()) return stage;
    return base::MakeError(absl::StatusCode::kDataLoss, "STATE_CORRUPT",
                           "the job's saved first stage is damaged; start the job again");
  }
};

class PruneFlProgram : public TrainingProgram {
 public:
  PruneFlProgram(const v1::JobSpec& spec, PruneFlOptions options)
      : TrainingProgram(spec), options_(std::move(options)) {}

 protected:
  bool evolves() const override { return true; }

  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    if (options_.random_start) return RandomStructure(layout, options_.start, seed());
    return TrainingProgram::InitialStructure(layout);
  }

  absl::StatusOr<std::optional<Transition>> StartPrelude() const override {
    if (options_.random_start || options_.initial_adjustments == 0) {
      return std::optional<Transition>();
    }
    ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec().model()));
    ESPALIER_ASSIGN_OR_RETURN(auto structure, InitialStructure(*layout));
    ESPALIER_ASSIGN_OR_RETURN(tensor::ModelTopology topology,
                              tensor::ModelTopology::Create(layout, std::move(structure)));
    ProgramState state;
    state.topology_version = 1;
    state.model.topology = std::make_shared<const tensor::ModelTopology>(std::move(topology));
    state.model.values = InitialValues(spec().model(), *state.model.topology, seed());
    return std::optional(TrainAtOne(std::move(state), {}));
  }

  absl::StatusOr<Transition> NextInPrelude(ProgramState state,
                                           const reduce::Reduced& reduced) const override {
    if (state.phase != kInitial) return Done(state);
    const tensor::ModelTopology& topology = *state.model.topology;
    const std::span<const float> trained = reduced.Section(v1::SECTION_KIND_VALUES);
    const std::span<const float> importance = reduced.Section(v1::SECTION_KIND_IMPORTANCE);
    if (static_cast<int64_t>(trained.size()) != topology.total_stored() ||
        static_cast<int64_t>(importance.size()) != topology.total_size()) {
      return base::FailedPrecondition(
          "SHAPE_MISMATCH", fmt::format("expected {} values and {} importances, found {} and {}",
                                        topology.total_stored(), topology.total_size(),
                                        trained.size(), importance.size()));
    }
    ESPALIER_ASSIGN_OR_RETURN(InitialStage stage, InitialStage::Decode(state.memory));
    state.model.values.assign(trained.begin(), trained.end());
    ++stage.periods;
    stage.adjusts = stage.adjusts || IsBetterThanChance(reduced);
    std::optional<StructureChange> change;
    if (stage.adjusts) {
      ESPALIER_ASSIGN_OR_RETURN(change, AdjustAtOne(importance, state, stage));
    }
    ESPALIER_ASSIGN_OR_RETURN(Transition transition, AfterAdjustment(std::move(state), stage));
    transition.structure_change = std::move(change);
    transition.prelude_step.emplace();
    transition.prelude_step->set_phase(kInitial);
    transition.prelude_step->set_candidate(static_cast<int32_t>(stage.periods));
    transition.prelude_step->set_candidates(static_cast<int32_t>(options_.initial_adjustments));
    return transition;
  }

  v1::Task MakeTask(const ProgramState& state) const override {
    v1::Task task = TrainingProgram::MakeTask(state);
    if (NeedsImportance(RoundInWork(state))) {
      task.mutable_train()->add_additions()->mutable_importance();
    }
    return task;
  }

  absl::StatusOr<Evolution> PlanFromMemory(const ProgramState& state,
                                           const reduce::Reduced& trained,
                                           std::string& own) const override {
    const int64_t round = RoundInWork(state);
    ESPALIER_ASSIGN_OR_RETURN(RoundMemory memory, RoundMemory::Decode(own));
    Evolution evolution;
    if (NeedsImportance(round)) {
      ESPALIER_RETURN_IF_ERROR(memory.Add(trained.Section(v1::SECTION_KIND_IMPORTANCE)));
    } else if (options_.measures_base && trained.participants > 0) {
      // Rounds with importance compute dense gradients besides: they do not take what others take.
      ESPALIER_ASSIGN_OR_RETURN(const double cost, CostOf(*state.model.topology));
      memory.fit.Add(cost, trained.compute_seconds / static_cast<double>(trained.participants));
    }
    if (NeedsImportance(round) && round % options_.update_every == 0) {
      ESPALIER_ASSIGN_OR_RETURN(const AdjustmentOptions adjustment,
                                Adjustment(*state.model.topology, round, memory.fit));
      ESPALIER_ASSIGN_OR_RETURN(evolution,
                                PlanAdjustment(state.model, memory.importance, adjustment));
      memory.importance.clear();
    }
    own = memory.Encode();
    return evolution;
  }

 private:
  // Whether importance of `round` counts in the adjustment that follows. None after the last one.
  bool NeedsImportance(int64_t round) const {
    const int64_t every = options_.update_every;
    const int64_t next = (round + every - 1) / every * every;
    return next < rounds() && round > next - options_.importance_rounds;
  }

  // Cost of the active weights.
  absl::StatusOr<double> CostOf(const tensor::ModelTopology& topology) const {
    ESPALIER_ASSIGN_OR_RETURN(
        const std::vector<double> costs,
        WeightCosts(spec().model(), options_.weight_cost, options_.operation_cost));
    double cost = 0;
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      if (!topology.layout()[i].sparsifiable) continue;
      cost += costs[i] * static_cast<double>(topology.stored(i));
    }
    return cost;
  }

  absl::StatusOr<AdjustmentOptions> Adjustment(const tensor::ModelTopology& topology, int64_t round,
                                               const CostFit& fit) const {
    AdjustmentOptions adjustment;
    adjustment.drop_fraction = options_.drop_fraction *
                               std::pow(0.5, static_cast<double>(round) / options_.drop_half_life);
    ESPALIER_ASSIGN_OR_RETURN(
        adjustment.weight_costs,
        WeightCosts(spec().model(), options_.weight_cost, options_.operation_cost));
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      const tensor::TensorSpec& tensor = topology.layout()[i];
      if (!tensor.sparsifiable) continue;
      adjustment.base_cost +=
          options_.base_cost * adjustment.weight_costs[i] * static_cast<double>(tensor.size());
    }
    if (options_.measures_base) {
      adjustment.base_cost = fit.BaseCost().value_or(adjustment.base_cost);
    }
    adjustment.max_active = static_cast<int64_t>(
        std::llround(options_.max_density * static_cast<double>(topology.sparsifiable_size())));
    return adjustment;
  }

  // One period of training between two adjustments, at one participant.
  Transition TrainAtOne(ProgramState state, const InitialStage& stage) const {
    Transition transition;
    Step step;
    step.prelude = true;
    step.task = TrainingProgram::MakeTask(state);
    v1::TrainTask& train = *step.task.mutable_train();
    v1::Training& training = *train.mutable_training();
    training.clear_local_epochs();
    training.set_local_steps(static_cast<int32_t>(options_.initial_updates));
    training.clear_proximal_mu();
    training.mutable_optimizer()->clear_across_rounds();
    train.set_first_step(stage.periods * options_.initial_updates);
    train.add_additions()->mutable_importance()->set_every(
        static_cast<int32_t>(options_.initial_sum));
    train.add_additions()->mutable_example_limit()->set_examples(options_.initial_examples);
    step.participants = Participants::kAnyOne;
    step.reducer = reduce::ReducerKind::kMean;
    state.phase = kInitial;
    state.memory = stage.Encode();
    transition.state = std::move(state);
    transition.state.step = std::move(step);
    return transition;
  }

  bool IsBetterThanChance(const reduce::Reduced& reduced) const {
    const v1::ModelSpec& model = spec().model();
    const auto classes =
        static_cast<double>(model.layers(model.layers_size() - 1).linear().units());
    return static_cast<double>(reduced.correct) >=
           kBetterThanChance / classes * static_cast<double>(reduced.examples);
  }

  absl::StatusOr<std::optional<StructureChange>> AdjustAtOne(std::span<const float> importance,
                                                             ProgramState& state,
                                                             InitialStage& stage) const {
    const auto before = static_cast<double>(state.model.topology->sparsifiable_stored());
    ESPALIER_ASSIGN_OR_RETURN(const AdjustmentOptions adjustment,
                              Adjustment(*state.model.topology, 0, {}));
    ESPALIER_ASSIGN_OR_RETURN(const Evolution evolution,
                              PlanAdjustment(state.model, importance, adjustment));
    std::optional<StructureChange> change;
    if (!evolution.empty()) {
      change = StructureChange{state.model.topology, evolution};
      ESPALIER_ASSIGN_OR_RETURN(
          state.model, Evolve(state.model, evolution, [](const StructureChange::Tensor& tensor) {
            return std::vector<float>(tensor.diff.grown.size(), 0.0F);
          }));
      ++state.topology_version;
    }
    const auto after = static_cast<double>(state.model.topology->sparsifiable_stored());
    const bool is_stable = std::abs(after - before) <= kStableChange * before;
    stage.stable = is_stable ? stage.stable + 1 : 0;
    return change;
  }

  absl::StatusOr<Transition> AfterAdjustment(ProgramState state, const InitialStage& stage) const {
    if (stage.periods < options_.initial_adjustments && stage.stable < kStableAdjustments) {
      return TrainAtOne(std::move(state), stage);
    }
    tensor::ModelState model = state.model;
    return BeginTraining(std::move(state), std::move(model));
  }

  PruneFlOptions options_;
};

// A density or distribution is one of a random start.
bool IsRandomStart(const v1::JobSpec& spec, const config::Parameters& parameters) {
  if (IsGiven(spec, "initial")) return parameters.Choice("initial") == "random";
  return IsGiven(spec, "distribution") || IsGiven(spec, "density") || IsGiven(spec, "epsilon") ||
         IsGiven(spec, "density_over");
}

config::ParameterSchema PruneFlParameters() {
  constexpr int64_t kMost = 1'000'000;
  constexpr double kMostCost = 1e12;
  config::ParameterSchema schema = {params::Word(
      "initial", "adaptive", {"adaptive", "random"},
      "Where federated training starts: from a dense model that one participant pruned "
      "(adaptive), or from a random structure (random, also where one of its "
      "parameters is given).")};
  for (config::Parameter& parameter : StructureParameters("erk")) {
    parameter.doc += " Only with initial random.";
    schema.push_back(std::move(parameter));
  }
  return params::With(
      std::move(schema),
      {params::Above(params::Share("max_density", 1,
                                   "No weight is added while that many are active, over all "
                                   "sparsifiable layers.")),
       params::UpdateEvery(50, "adjustments"),
       params::Whole("importance_rounds", 1, 1, kMost,
                     "Rounds before an adjustment whose gradients count in it; update_every "
                     "for all of them, as in the paper."),
       params::Below(params::Share("drop_fraction", 0.3,
                                   "Share of each layer's weights, smallest first, that an "
                                   "adjustment may drop.")),
       params::Above(params::Number("drop_half_life", 10'000, 0, 1e9,
                                    "Rounds in which drop_fraction falls to a half.")),
       params::Word("costs", "fixed", {"fixed", "measured"},
                    "Time of a round apart from its weights: base_cost (fixed), or by least "
                    "squares from the times that workers report (measured; base_cost until "
                    "rounds of two densities took different times). Measured times differ "
                    "from run to run, and the models with them."),
       params::Number("base_cost", 0.7, 0, kMostCost,
                      "Time of a round that does not depend on the weights, as a share of the "
                      "time that all weights would take."),
       params::Above(
           params::Number("weight_cost", 1, 0, kMostCost, "Time of a round per active weight.")),
       params::Number("operation_cost", 0, 0, kMostCost,
                      "Time of a round per active weight and output position of its layer."),
       params::Whole("initial_adjustments", 20, 0, kMost,
                     "Adjustments at one participant at most. 0: start dense."),
       params::Whole("initial_updates", 250, 1, kMost, "Minibatches between two of those."),
       params::Whole("initial_sum", 5, 1, kMost,
                     "Minibatches of those whose gradients are summed before the sum is "
                     "squared."),
       params::Whole("initial_examples", 200, 1, kMost,
                     "Examples that the one participant trains on; all when it has fewer.")});
}

void ValidateStart(const v1::JobSpec& spec, const config::Parameters& parameters,
                   const tensor::ModelLayout& layout, std::vector<config::Violation>& violations) {
  if (!IsRandomStart(spec, parameters)) {
    for (const char* name : {"distribution", "density", "density_over", "epsilon"}) {
      if (!IsGiven(spec, name)) continue;
      violations.push_back(
          {fmt::format("method.parameters.{}", name),
           "has no effect with initial adaptive; leave it out, choose initial random, or limit "
           "the density with max_density"});
    }
    return;
  }
  for (const char* name :
       {"initial_adjustments", "initial_updates", "initial_sum", "initial_examples"}) {
    if (!IsGiven(spec, name)) continue;
    violations.push_back({fmt::format("method.parameters.{}", name),
                          "has no effect with initial random; leave it out"});
  }
  const size_t before = violations.size();
  ValidateBudget(spec, parameters, violations);
  if (violations.size() > before) return;
  const auto counts = StoredCounts(layout, BudgetOf(spec, parameters));
  int64_t active = 0;
  int64_t size = 0;
  for (size_t i = 0; i < layout.size(); ++i) {
    if (!layout[i].sparsifiable) continue;
    active += (*counts)[i];
    size += layout[i].size();
  }
  const auto most = std::llround(parameters.Double("max_density") * static_cast<double>(size));
  if (active <= most) return;
  violations.push_back(
      {"method.parameters.max_density",
       fmt::format("expected room for the {} weights of the random start, found {} ({} of {}); "
                   "raise it or lower density",
                   active, most, parameters.Double("max_density"), size)});
}

void ValidatePruneFl(const v1::JobSpec& spec, const config::Parameters& parameters,
                     std::vector<config::Violation>& violations) {
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok()) return;
  const bool any = std::ranges::any_of(
      **layout, [](const tensor::TensorSpec& tensor) { return tensor.sparsifiable; });
  if (!any) {
    violations.push_back({"method.name",
                          "every layer of the model is marked dense, so there is nothing to prune; "
                          "use method dense, or unmark a layer"});
    return;
  }
  int64_t positions = 0;
  for (const tensor::TensorSpec& tensor : **layout) positions += tensor.size();
  // Importance is as long as the dense model, beside the weights.
  ValidateDenseStart(spec, **layout, positions, violations);
  ValidateStart(spec, parameters, **layout, violations);
  if (parameters.Int("importance_rounds") > parameters.Int("update_every")) {
    violations.push_back(
        {"method.parameters.importance_rounds",
         fmt::format("expected at most update_every ({}), found {}; lower it",
                     parameters.Int("update_every"), parameters.Int("importance_rounds"))});
  }
  if (parameters.Choice("costs") == "measured" &&
      parameters.Int("importance_rounds") == parameters.Int("update_every")) {
    violations.push_back(
        {"method.parameters.costs",
         fmt::format("measured takes times from rounds without importance, and importance_rounds "
                     "({}) leaves none before an adjustment; lower importance_rounds, raise "
                     "update_every, or choose fixed",
                     parameters.Int("importance_rounds"))});
  }
  const int64_t rounds = spec.federation().rounds();
  if (IsGiven(spec, "update_every") && rounds > 0 && parameters.Int("update_every") >= rounds) {
    violations.push_back(
        {"method.parameters.update_every",
         fmt::format("expected fewer than the job's {} rounds, so that an adjusted model is "
                     "trained, found {}; lower it or raise federation.rounds",
                     rounds, parameters.Int("update_every"))});
  }
}

std::unique_ptr<Program> MakePruneFl(const v1::JobSpec& spec,
                                     const config::Parameters& parameters) {
  return std::make_unique<PruneFlProgram>(
      spec, PruneFlOptions{.random_start = IsRandomStart(spec, parameters),
                           .start = BudgetOf(spec, parameters),
                           .max_density = parameters.Double("max_density"),
                           .update_every = parameters.Int("update_every"),
                           .importance_rounds = parameters.Int("importance_rounds"),
                           .drop_fraction = parameters.Double("drop_fraction"),
                           .drop_half_life = parameters.Double("drop_half_life"),
                           .base_cost = parameters.Double("base_cost"),
                           .measures_base = parameters.Choice("costs") == "measured",
                           .weight_cost = parameters.Double("weight_cost"),
                           .operation_cost = parameters.Double("operation_cost"),
                           .initial_adjustments = parameters.Int("initial_adjustments"),
                           .initial_updates = parameters.Int("initial_updates"),
                           .initial_sum = parameters.Int("initial_sum"),
                           .initial_examples = parameters.Int("initial_examples")});
}

// Importance of all positions: with the updates, and where it is summed over rounds, in the
// program's memory and its copies.
absl::StatusOr<CoordinatorDemand> PruneFlDemand(const v1::JobSpec& spec,
                                                const config::Parameters& parameters) {
  constexpr double kCopies = 6;
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  ESPALIER_ASSIGN_OR_RETURN(CoordinatorDemand demand, DenseStructureDemand(spec, parameters));
  for (const tensor::TensorSpec& tensor : *layout) {
    demand.update_values += static_cast<double>(tensor.size());
  }
  if (parameters.Int("importance_rounds") > 1) {
    demand.other_bytes = kCopies * sizeof(float) * demand.update_values;
  }
  return demand;
}

}  // namespace

MethodDeclaration PruneflMethod(const Library&) {
  return {
      .name = "prunefl",
      .summary = "PruneFL: keep the weights that lower the loss fastest for the time they take.",
      .source =
          "Jiang et al., Model pruning enables efficient federated learning on edge "
          "devices, TNNLS 2022, arXiv 1909.12326",
      .parameters = PruneFlParameters(),
      .dense_capable_workers = true,
      .needs = {ModelNeed::kTraining, ModelNeed::kLayers, ModelNeed::kImportance},
      .validate = ValidatePruneFl,
      .make = MakePruneFl,
      .demand = PruneFlDemand,
      .bytes_per_position = 12};  // sums, squares, and the importance that is sent
}

}  // namespace espalier::server::methods
