// dsl: Dynamic Sparse Learning (Wang et al., WSDM 2024) over rounds: uniform density, a share of
// the weights that falls to a floor, drop by magnitude, grow by gradient.
#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/replace.h"
#include "common/sparsity/schedule.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/gradient_growth.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

struct DslOptions {
  Budget budget;
  double rho;
  double rho_min;
  int64_t update_every;
  std::string death;
  bool grow_random;
  bool regrow;
  double candidate_slack;
  int64_t growth_batches;
};

class DslProgram : public TrainingProgram {
 public:
  DslProgram(const v1::JobSpec& spec, DslOptions options)
      : TrainingProgram(spec), options_(std::move(options)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return RandomStructure(layout, options_.budget, seed());
  }
  bool evolves() const override { return true; }

  v1::Task MakeTask(const ProgramState& state) const override {
    v1::Task task = TrainingProgram::MakeTask(state);
    const double rho = Rho(RoundInWork(state));
    if (rho == 0) return task;
    v1::TrainTask& train = *task.mutable_train();
    if (!options_.grow_random) {
      AskForCandidates(*state.model.topology, Counts(state, rho), options_.candidate_slack,
                       options_.growth_batches, train);
    }
    if (needs_active_gradients()) {
      v1::GrowthReport& report =
          *wire::MutableAddition(train, v1::TrainAddition::kGrowth).mutable_growth();
      report.set_active(true);
      report.set_batches(static_cast<int32_t>(options_.growth_batches));
    }
    return task;
  }

  v1::PrivateUpdate PrivateRule(int32_t round) const override {
    v1::PrivateUpdate rule;
    rule.set_fraction(Rho(round));
    rule.set_drop(options_.death == "set"      ? v1::PrivateUpdate::DROP_SIGNED
                  : options_.death == "taylor" ? v1::PrivateUpdate::DROP_TAYLOR
                                               : v1::PrivateUpdate::DROP_MAGNITUDE);
    rule.set_grow_random(options_.grow_random);
    rule.set_batches(static_cast<int32_t>(options_.growth_batches));
    return rule;
  }

  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced& trained) const override {
    const double rho = Rho(RoundInWork(state));
    Evolution evolution;
    if (rho == 0) return evolution;
    const tensor::ModelTopology& topology = *state.model.topology;
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      if (!topology.is_sparse(i) || topology.stored(i) == 0) continue;
      StructureChange::Tensor change;
      change.tensor = i;
      const auto all = trained.Section(v1::SECTION_KIND_GRADIENTS);
      const auto gradients =
          all.empty() ? all : all.subspan(topology.offset(i), topology.stored(i));
      const std::vector<float> scores = Scores(state.model.tensor(i), gradients);
      change.diff.dropped = Dropped(scores, rho);
      if (options_.grow_random) {
        const auto round = static_cast<uint64_t>(RoundInWork(state));
        GrowAtRandom(topology, base::StreamKey(seed(), "grow", {i, round}), change);
      } else {
        ESPALIER_RETURN_IF_ERROR(GrowByGradient(state, trained, gradients, scores, change));
      }
      if (!change.diff.dropped.empty()) evolution.push_back(std::move(change));
    }
    return evolution;
  }

 private:
  bool needs_active_gradients() const {
    return options_.death == "taylor" || (!options_.grow_random && options_.regrow);
  }

  // Share of the weights to replace after `round`; 0 in rounds without an update. The
  // schedule runs over all steps of the job, and every round has as many.
  double Rho(int32_t round) const {
    if (round >= rounds() || round % options_.update_every != 0) return 0;
    return sparsity::CosineWithFloor(options_.rho, options_.rho_min, round, rounds());
  }

  std::vector<int64_t> Counts(const ProgramState& state, double rho) const {
    const tensor::ModelTopology& topology = *state.model.topology;
    std::vector<int64_t> counts(topology.num_tensors(), 0);
    for (size_t i = 0; i < counts.size(); ++i) {
      if (topology.is_sparse(i)) counts[i] = sparsity::CeilingOf(rho, topology.stored(i));
    }
    return counts;
  }

  // What decides on death: the weights, or weight · gradient.
  std::vector<float> Scores(std::span<const float> values, std::span<const float> gradients) const {
    std::vector<float> scores(values.begin(), values.end());
    if (options_.death != "taylor") return scores;
    for (size_t i = 0; i < scores.size(); ++i) scores[i] *= gradients[i];
    return scores;
  }

  std::vector<int32_t> Dropped(std::span<const float> scores, double rho) const {
    if (options_.death == "set") return sparsity::DropSetSigned(scores, rho);
    return sparsity::DropSmallestMagnitude(
        scores, sparsity::CeilingOf(rho, static_cast<int64_t>(scores.size())));
  }

  // Largest gradients among the reported inactive positions and, when they may come back, those
  // just dropped.
  absl::Status GrowByGradient(const ProgramState& state, const reduce::Reduced& trained,
                              std::span<const float> gradients, std::span<const float> scores,
                              StructureChange::Tensor& change) const {
    if (change.tensor >= trained.scores.size()) {
      return base::FailedPrecondition(
          "GROWTH_SCORES_MISSING",
          "expected growth candidates from the workers, found none; check that all workers run "
          "this version");
    }
    const reduce::ScoreList& list = trained.scores[change.tensor];
    ESPALIER_ASSIGN_OR_RETURN(
        change.diff,
        sparsity::ReplaceByGradient(state.model.topology->topology(change.tensor), scores,
                                    std::move(change.diff.dropped),
                                    {.positions = list.positions, .gradients = list.values},
                                    options_.regrow ? gradients : std::span<const float>()));
    return absl::OkStatus();
  }

  DslOptions options_;
};

config::ParameterSchema DslParameters() {
  return params::With(
      StructureParameters("uniform"),
      {params::Share("rho", 0.5,
                     "Share of each tensor's weights that an update at the very beginning "
                     "would replace; it falls with half a cosine over all rounds."),
       params::Share("rho_min", 0.005, "Where that share ends; at most rho."),
       params::UpdateEvery(1,
                           "updates of the structure; in steps, this times training.local_steps"),
       params::Word("death", "magnitude", {"magnitude", "set", "taylor"},
                    "What goes: the smallest |weight| (magnitude), the weakest positive and "
                    "the weakest negative weights (set), or the smallest |weight · "
                    "gradient| (taylor)."),
       params::Word("growth", "gradient", {"gradient", "random"},
                    "What comes, with value 0: the largest |gradient| (gradient), or "
                    "positions drawn at random (random)."),
       params::Switch("regrow", true,
                      "Whether what was just dropped may be grown again by its gradient. Then "
                      "workers also send the gradients of stored weights in rounds with an "
                      "update."),
       params::CandidateSlack(1), params::GrowthBatches()});
}

void ValidateDsl(const v1::JobSpec& spec, const config::Parameters& parameters,
                 std::vector<config::Violation>& violations) {
  ValidateBudget(spec, parameters, violations);
  if (parameters.Double("rho_min") > parameters.Double("rho")) {
    violations.push_back({"method.parameters.rho_min",
                          "must be at most rho, where the schedule begins; lower it or raise rho"});
  }
}

absl::StatusOr<CoordinatorDemand> DslDemand(const v1::JobSpec& spec,
                                            const config::Parameters& parameters) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> stored, StoredCountsOf(spec, parameters));
  const bool random = parameters.Choice("growth") == "random";
  CoordinatorDemand demand;
  if (!random) {
    ESPALIER_ASSIGN_OR_RETURN(demand, GrowthDemand(spec, stored, parameters.Double("rho"),
                                                   parameters.Double("candidate_slack")));
  }
  if (parameters.Choice("death") == "taylor" || (!random && parameters.Bool("regrow"))) {
    for (const int64_t weights : stored) demand.update_values += static_cast<double>(weights);
  }
  return demand;
}

}  // namespace

MethodDeclaration DslMethod(const Library&) {
  return {
      .name = "dsl",
      .summary = "Dynamic Sparse Learning: sparse embeddings from scratch at a constant budget.",
      .source =
          "Wang et al., Dynamic sparse learning: a novel paradigm for efficient "
          "recommendation, WSDM 2024",
      .parameters = DslParameters(),
      .validate = ValidateDsl,
      .make =
          [](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<DslProgram>(
                spec, DslOptions{.budget = BudgetOf(spec, parameters),
                                 .rho = parameters.Double("rho"),
                                 .rho_min = parameters.Double("rho_min"),
                                 .update_every = parameters.Int("update_every"),
                                 .death = parameters.Choice("death"),
                                 .grow_random = parameters.Choice("growth") == "random",
                                 .regrow = parameters.Bool("regrow"),
                                 .candidate_slack = parameters.Double("candidate_slack"),
                                 .growth_batches = parameters.Int("growth_batches")});
          },
      .stored_counts = StoredCountsOf,
      .demand = DslDemand,
  };
}

}  // namespace espalier::server::methods
