// feddst: participants prune and regrow their own structures; the coordinator averages over owners
// and prunes back (Bibikar et al., AAAI 2022).
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/schedule.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/methods/aggregation/aggregate.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/gradient_growth.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

struct FedDstOptions {
  Budget budget;
  double alpha;
  bool cosine;
  int64_t update_every;
  int64_t stop_round;
  double after_fraction;
};

class FedDstProgram : public TrainingProgram {
 public:
  FedDstProgram(const v1::JobSpec& spec, FedDstOptions options)
      : TrainingProgram(spec), options_(std::move(options)) {}

 protected:
  bool evolves() const override { return true; }

  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return RandomStructure(layout, options_.budget, seed());
  }

  v1::Task MakeTask(const ProgramState& state) const override {
    v1::Task task = TrainingProgram::MakeTask(state);
    const std::vector<int64_t> counts = ReadjustmentCounts(state);
    if (std::ranges::all_of(counts, [](int64_t count) { return count == 0; })) return task;
    v1::Readjustment& readjustment = *task.mutable_train()->add_additions()->mutable_readjustment();
    readjustment.mutable_counts()->Assign(counts.begin(), counts.end());
    readjustment.set_after_fraction(options_.after_fraction);
    return task;
  }

  // The union of the participants' structures, pruned back to as many weights as there were.
  absl::StatusOr<std::optional<StructureChange>> TakeTrained(
      ProgramState& state, reduce::Reduced& trained) const override {
    if (!wire::HasAddition(MakeTask(state).train(), v1::TrainAddition::kReadjustment)) {
      return TrainingProgram::TakeTrained(state, trained);
    }
    std::vector<float> values = trained.Take(v1::SECTION_KIND_VALUES);
    if (trained.topology == nullptr ||
        static_cast<int64_t>(values.size()) != trained.topology->total_stored()) {
      return base::FailedPrecondition(
          "SHAPE_MISMATCH",
          fmt::format("expected a mean over owners with its structure, found {} values",
                      values.size()));
    }
    const tensor::ModelState united = {trained.topology, std::move(values)};
    const auto base = state.model.topology;
    ESPALIER_ASSIGN_OR_RETURN(
        state.model, Evolve(united, PruneTo(*base, united),
                            [](const StructureChange::Tensor&) { return std::vector<float>(); }));
    StructureChange change{base, DifferenceOf(*base, *state.model.topology)};
    if (change.tensors.empty()) return std::nullopt;
    CarryOver(base, state.model.topology, change.tensors, state.server);
    ++state.topology_version;
    return change;
  }

 private:
  static Evolution PruneTo(const tensor::ModelTopology& targets, const tensor::ModelState& model) {
    Evolution evolution;
    for (size_t i = 0; i < targets.num_tensors(); ++i) {
      const int64_t excess = model.topology->stored(i) - targets.stored(i);
      if (excess <= 0) continue;
      StructureChange::Tensor change;
      change.tensor = i;
      change.diff.dropped = sparsity::DropSmallestMagnitude(model.tensor(i), excess);
      evolution.push_back(std::move(change));
    }
    return evolution;
  }

  // How many weights of each tensor a participant replaces in the round in work.
  std::vector<int64_t> ReadjustmentCounts(const ProgramState& state) const {
    const tensor::ModelTopology& topology = *state.model.topology;
    std::vector<int64_t> counts(topology.num_tensors(), 0);
    const int64_t round = RoundInWork(state);
    if (round >= rounds() || round >= options_.stop_round || round % options_.update_every != 0) {
      return counts;
    }
    const double fraction =
        options_.cosine ? sparsity::CosineAdjustFraction(options_.alpha, static_cast<double>(round),
                                                         static_cast<double>(options_.stop_round))
                        : options_.alpha;
    for (size_t i = 0; i < counts.size(); ++i) {
      if (!topology.is_sparse(i)) continue;
      counts[i] = std::min(RoundedUp(fraction, topology.stored(i)), InactivePositions(topology, i));
    }
    return counts;
  }

  FedDstOptions options_;
};

config::ParameterSchema FedDstParameters() {
  return params::With(
      StructureParameters("erk"),
      {params::Share("alpha", 0.01,
                     "Share of a layer's weights that each participant replaces in a "
                     "readjustment."),
       params::Word("decay", "cosine", {"cosine", "none"},
                    "Whether alpha falls with half a cosine to 0 at stop_round, or stays."),
       params::UpdateEvery(10, "readjustments"), params::StopRound(1'000'000),
       params::Above(params::Share("readjust_after", 0.5,
                                   "Share of the round's minibatches that come before the "
                                   "readjustment, at least one."))});
}

void ValidateFedDst(const v1::JobSpec& spec, const config::Parameters& parameters,
                    std::vector<config::Violation>& violations) {
  ValidateBudget(spec, parameters, violations);
  if (spec.training().optimizer().across_rounds() == v1::Optimizer::ACROSS_ROUNDS_AVERAGE) {
    violations.push_back({"training.optimizer.across_rounds",
                          "the participants of feddst train different structures, whose optimizer "
                          "state has no mean; use reset"});
  }
  const v1::Aggregation& aggregation = spec.aggregation();
  if (spec.training().proximal_mu() > 0) {
    violations.push_back({"training.proximal_mu",
                          "the weights that a participant grows have no value in the round's model "
                          "to stay near; remove it, or use method rigl"});
  }
  if (aggregation.rule() > v1::Aggregation::RULE_MEAN || aggregation.clip_norm() > 0 ||
      aggregation.server_optimizer() > v1::Aggregation::SERVER_OPTIMIZER_NONE) {
    violations.push_back({"aggregation",
                          "feddst averages each weight over those who have it; remove rule, "
                          "clip_norm and server_optimizer"});
  }
  if (aggregation.pooled_variance()) {
    violations.push_back({"aggregation.pooled_variance",
                          "feddst averages each value over those who have it; use false, or "
                          "evaluation.recalibration with pooled_variance"});
  }
  if (spec.training().control_variates()) {
    violations.push_back({"training.control_variates",
                          "the participants of feddst train different structures, whose control "
                          "variates have no mean; use false"});
  }
}

// Owners are summed with the examples they have (server/reduce/owners_reducer.h).
absl::StatusOr<CoordinatorDemand> FedDstDemand(const v1::JobSpec& spec,
                                               const config::Parameters& parameters) {
  ESPALIER_ASSIGN_OR_RETURN(CoordinatorDemand demand,
                            GrowthDemand(spec, StoredCountsOf(spec, parameters),
                                         parameters.Double("alpha"), /*slack=*/1));
  demand.value_bytes = 24;
  demand.candidate_bytes = 96;
  return demand;
}

}  // namespace

MethodDeclaration FeddstMethod(const Library&) {
  return {.name = "feddst",
          .summary = "FedDST: participants prune and regrow while they train; owners are averaged.",
          .source =
              "Bibikar et al., Federated dynamic sparse training: computing less, communicating "
              "less, yet learning better, AAAI 2022",
          .parameters = FedDstParameters(),
          .needs = {ModelNeed::kTraining, ModelNeed::kReadjustment},
          .validate = ValidateFedDst,
          .make =
              [](const v1::JobSpec& spec, const config::Parameters& parameters) {
                return std::make_unique<FedDstProgram>(
                    spec,
                    FedDstOptions{.budget = BudgetOf(spec, parameters),
                                  .alpha = parameters.Double("alpha"),
                                  .cosine = parameters.Choice("decay") == "cosine",
                                  .update_every = parameters.Int("update_every"),
                                  .stop_round = std::min<int64_t>(parameters.Int("stop_round"),
                                                                  spec.federation().rounds()),
                                  .after_fraction = parameters.Double("readjust_after")});
              },
          .stored_counts = StoredCountsOf,
          .demand = FedDstDemand};
}

}  // namespace espalier::server::methods
