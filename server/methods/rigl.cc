// rigl: RigL (Evci et al., ICML 2020) over rounds, with growth candidates from the workers.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "common/sparsity/grow.h"
#include "common/sparsity/schedule.h"
#include "server/methods/builtin.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

struct RigLOptions {
  Budget budget;
  double alpha;
  int64_t update_every;
  double end_fraction;
  double candidate_slack;
  int64_t growth_batches;
};

class RigLProgram : public TrainingProgram {
 public:
  RigLProgram(const v1::JobSpec& spec, RigLOptions options)
      : TrainingProgram(spec), options_(std::move(options)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return RandomStructure(layout, options_.budget, seed());
  }
  bool evolves() const override { return true; }

  v1::Task MakeTask(const ProgramState& state) const override {
    v1::Task task = TrainingProgram::MakeTask(state);
    std::vector<int64_t> candidates;
    bool any = false;
    for (size_t i = 0; i < state.model.topology->num_tensors(); ++i) {
      const int64_t count = UpdateCount(state, i);
      const double wanted = std::ceil(options_.candidate_slack * static_cast<double>(count));
      candidates.push_back(count == 0 ? 0
                                      : std::min(Inactive(state, i), static_cast<int64_t>(wanted)));
      any = any || count > 0;
    }
    if (!any) return task;
    task.mutable_train()->mutable_growth_candidates()->Add(candidates.begin(), candidates.end());
    task.mutable_train()->set_growth_batches(static_cast<int32_t>(options_.growth_batches));
    return task;
  }

  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced& trained) const override {
    Evolution evolution;
    for (size_t i = 0; i < state.model.topology->num_tensors(); ++i) {
      const int64_t count = UpdateCount(state, i);
      if (count == 0) continue;
      if (i >= trained.scores.size()) {
        return base::FailedPrecondition(
            "GROWTH_SCORES_MISSING",
            fmt::format("round {}: expected growth candidates from the workers, found none; check "
                        "that all workers run this version",
                        RoundInWork(state)));
      }
      const reduce::ScoreList& list = trained.scores[i];
      StructureChange::Tensor change;
      change.tensor = i;
      ESPALIER_ASSIGN_OR_RETURN(
          change.diff,
          sparsity::RigLUpdate(state.model.topology->topology(i), state.model.tensor(i),
                               {.positions = list.positions, .gradients = list.values}, count));
      if (!change.diff.dropped.empty()) evolution.push_back(std::move(change));
    }
    return evolution;
  }

 private:
  static int64_t Inactive(const ProgramState& state, size_t tensor) {
    const tensor::Topology& topology = state.model.topology->topology(tensor);
    return topology.size() - topology.nnz();
  }

  // How many weights of a tensor are replaced after the round in work.
  int64_t UpdateCount(const ProgramState& state, size_t tensor) const {
    const int32_t round = RoundInWork(state);
    if (!state.model.topology->is_sparse(tensor) || round >= rounds()) return 0;
    if (round % options_.update_every != 0) return 0;
    const double fraction =
        sparsity::CosineAdjustFraction(options_.alpha, round, options_.end_fraction * rounds());
    return std::min(sparsity::FractionOf(fraction, state.model.topology->stored(tensor)),
                    Inactive(state, tensor));
  }

  RigLOptions options_;
};

config::ParameterSchema RigLParameters() {
  config::ParameterSchema schema = StructureParameters("erk");
  schema.push_back({.name = "alpha",
                    .default_value = 0.3,
                    .doc = "Share of each layer's weights that the first update replaces; it falls "
                           "with half a cosine.",
                    .min = 0,
                    .max = 1,
                    .choices = {}});
  schema.push_back({.name = "update_every",
                    .default_value = int64_t{1},
                    .doc = "Rounds between two updates of the structure.",
                    .min = 1,
                    .max = 1000000,
                    .choices = {}});
  schema.push_back({.name = "end_fraction",
                    .default_value = 0.75,
                    .doc = "Share of all rounds after which the structure stays.",
                    .min = 0,
                    .max = 1,
                    .min_exclusive = true,
                    .choices = {}});
  schema.push_back({.name = "candidate_slack",
                    .default_value = 2.0,
                    .doc = "Growth candidates that each worker reports per weight to be grown.",
                    .min = 1,
                    .max = 100,
                    .choices = {}});
  schema.push_back({.name = "growth_batches",
                    .default_value = int64_t{1},
                    .doc = "Minibatches over which a worker averages the growth gradient.",
                    .min = 1,
                    .max = 10000,
                    .choices = {}});
  return schema;
}

}  // namespace

MethodDeclaration RigLMethod() {
  return {
      .name = "rigl",
      .summary = "RigL: drop the smallest weights, grow where the gradient is largest.",
      .source = "Evci et al., Rigging the lottery: making all tickets winners, ICML 2020",
      .parameters = RigLParameters(),
      .validate = ValidateBudget,
      .make =
          [](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<RigLProgram>(
                spec, RigLOptions{.budget = BudgetOf(spec, parameters),
                                  .alpha = parameters.Double("alpha"),
                                  .update_every = parameters.Int("update_every"),
                                  .end_fraction = parameters.Double("end_fraction"),
                                  .candidate_slack = parameters.Double("candidate_slack"),
                                  .growth_batches = parameters.Int("growth_batches")});
          },
  };
}

}  // namespace espalier::server::methods
