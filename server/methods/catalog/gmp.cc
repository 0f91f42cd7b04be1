// gmp: gradual magnitude pruning of a dense model (Zhu and Gupta, 2017) over rounds.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/schedule.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

struct GmpOptions {
  Budget budget;  // at the end
  int64_t begin_round;
  int64_t end_round;
  int64_t update_every;
};

class GmpProgram : public TrainingProgram {
 public:
  GmpProgram(const v1::JobSpec& spec, GmpOptions options,
             std::shared_ptr<const pretrained::ModelLibrary> library)
      : TrainingProgram(spec, std::move(library)), options_(std::move(options)) {}

 protected:
  bool evolves() const override { return true; }

  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced&) const override {
    Evolution evolution;
    const int64_t round = RoundInWork(state);
    if (!IsPruningRound(round)) return evolution;
    const tensor::ModelTopology& topology = *state.model.topology;
    ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> last,
                              StoredCounts(topology.layout(), options_.budget));
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      const int64_t surplus =
          topology.stored(i) - Target(topology.layout()[i].size(), last[i], round);
      if (!topology.layout()[i].sparsifiable || surplus <= 0) continue;
      StructureChange::Tensor change;
      change.tensor = i;
      change.diff.dropped = sparsity::DropSmallestMagnitude(state.model.tensor(i), surplus);
      evolution.push_back(std::move(change));
    }
    return evolution;
  }

 private:
  bool IsPruningRound(int64_t round) const {
    if (round == options_.end_round) return true;
    if (round <= options_.begin_round || round > options_.end_round) return false;
    return (round - options_.begin_round) % options_.update_every == 0;
  }

  // Weights that a tensor of `size` keeps after the pruning of `round`, `last` in the end.
  int64_t Target(int64_t size, int64_t last, int64_t round) const {
    if (round >= options_.end_round) return last;
    const auto weights = static_cast<double>(size);
    const double sparsity = sparsity::CubicSparsity(
        0, 1 - static_cast<double>(last) / weights, static_cast<double>(round),
        static_cast<double>(options_.begin_round), static_cast<double>(options_.end_round));
    return std::max(last, static_cast<int64_t>(std::llround((1 - sparsity) * weights)));
  }

  GmpOptions options_;
};

config::ParameterSchema GmpParameters() {
  config::ParameterSchema schema = StructureParameters("uniform");
  for (config::Parameter& parameter : schema) {
    if (parameter.name == "density") parameter.doc += " Reached at end_round.";
  }
  return params::With(
      std::move(schema),
      {params::Whole("begin_round", 0, 0, 1'000'000,
                     "Rounds that are trained dense before the schedule begins; equal to "
                     "end_round: all weights are pruned at once."),
       params::Whole("end_round", 0, 0, 1'000'000,
                     "Round after which the last weights are pruned; 0: three quarters of the "
                     "job's rounds."),
       params::UpdateEvery(1, "prunings")});
}

int64_t EndRound(const v1::JobSpec& spec, const config::Parameters& parameters) {
  if (parameters.Int("end_round") > 0) return parameters.Int("end_round");
  return std::max<int64_t>(1, int64_t{spec.federation().rounds()} * 3 / 4);
}

void ValidateGmp(const v1::JobSpec& spec, const config::Parameters& parameters,
                 std::vector<config::Violation>& violations) {
  ValidateBudget(spec, parameters, violations);
  const auto layout = wire::LayoutOf(spec.model());
  if (layout.ok()) ValidateDenseStart(spec, **layout, 0, violations);
  const int64_t end = EndRound(spec, parameters);
  const int64_t rounds = spec.federation().rounds();
  if (end >= rounds && rounds > 0) {
    violations.push_back(
        {"method.parameters.end_round",
         fmt::format("expected a round before the job's last one, so that the pruned model is "
                     "trained and evaluated, found {} of {} rounds; lower it or raise "
                     "federation.rounds",
                     end, rounds)});
  }
  if (parameters.Int("begin_round") > end) {
    violations.push_back({"method.parameters.begin_round",
                          fmt::format("expected at most end_round ({}), found {}; lower it", end,
                                      parameters.Int("begin_round"))});
  }
}

}  // namespace

MethodDeclaration GmpMethod(const Library& library) {
  return {
      .name = "gmp",
      .summary =
          "Gradual magnitude pruning: start dense, drop the smallest weights on a cubic "
          "schedule.",
      .source =
          "Zhu and Gupta, To prune, or not to prune: exploring the efficacy of pruning for "
          "model compression, 2017, arXiv 1710.01878",
      .parameters = GmpParameters(),
      .dense_capable_workers = true,
      .begins_trained = true,
      .validate = ValidateGmp,
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<GmpProgram>(
                spec,
                GmpOptions{.budget = BudgetOf(spec, parameters),
                           .begin_round = parameters.Int("begin_round"),
                           .end_round = EndRound(spec, parameters),
                           .update_every = parameters.Int("update_every")},
                library);
          },
      .demand = DenseStructureDemand,
  };
}

}  // namespace espalier::server::methods
