#include "server/methods/set/set_program.h"

#include "common/base/rng.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/schedule.h"
#include "server/methods/parameters/params.h"
#include "server/methods/start/trained_start.h"

namespace espalier::server::methods {
namespace {

constexpr double kGrownDeviation = 0.1;

}  // namespace

absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> SetProgram::InitialStructure(
    const tensor::ModelLayout& layout) const {
  return StartStructure(spec(), layout, options_.budget, library());
}

v1::PrivateUpdate SetProgram::PrivateRule(int32_t round) const {
  v1::PrivateUpdate rule;
  if (round < rounds() && round % options_.evolve_every == 0) rule.set_fraction(options_.zeta);
  rule.set_drop(options_.drop == "signed" ? v1::PrivateUpdate::DROP_SIGNED
                                          : v1::PrivateUpdate::DROP_MAGNITUDE);
  rule.set_grow_random(true);
  return rule;
}

absl::StatusOr<Evolution> SetProgram::PlanEvolution(const ProgramState& state,
                                                    const reduce::Reduced&) const {
  if (RoundInWork(state) % options_.evolve_every != 0) return Evolution{};
  Evolution evolution = Removal(state);
  for (StructureChange::Tensor& change : evolution) {
    GrowAtRandom(*state.model.topology, Key(state, "grow", change.tensor), change);
  }
  return evolution;
}

absl::StatusOr<Evolution> SetProgram::FinalRemoval(const ProgramState& state) const {
  return options_.final_removal ? Removal(state) : Evolution{};
}

std::vector<float> SetProgram::GrownWeights(const ProgramState& state,
                                            const StructureChange::Tensor& change) const {
  std::vector<float> values(change.diff.grown.size(), 0.0f);
  if (!options_.grow_normal) return values;
  base::Rng rng(Key(state, "grown-values", change.tensor));
  for (float& value : values) value = static_cast<float>(kGrownDeviation * rng.Normal());
  return values;
}

uint64_t SetProgram::Key(const ProgramState& state, std::string_view purpose,
                         uint64_t tensor) const {
  return base::StreamKey(seed(), purpose, {tensor, static_cast<uint64_t>(RoundInWork(state))});
}

Evolution SetProgram::Removal(const ProgramState& state) const {
  Evolution evolution;
  for (size_t i = 0; i < state.model.topology->num_tensors(); ++i) {
    if (!state.model.topology->is_sparse(i)) continue;
    StructureChange::Tensor change;
    change.tensor = i;
    change.diff.dropped = Dropped(state, i);
    if (!change.diff.dropped.empty()) evolution.push_back(std::move(change));
  }
  return evolution;
}

std::vector<int32_t> SetProgram::Dropped(const ProgramState& state, size_t tensor) const {
  const auto values = state.model.tensor(tensor);
  if (options_.drop == "signed") return sparsity::DropSetSigned(values, options_.zeta);
  const auto nnz = static_cast<int64_t>(values.size());
  const int64_t count = sparsity::FractionOf(options_.zeta, nnz);
  if (options_.drop == "magnitude") return sparsity::DropSmallestMagnitude(values, count);
  return sparsity::DropRandom(nnz, count, Key(state, "drop", tensor));
}

config::ParameterSchema SetParameters(double epsilon, double zeta) {
  config::ParameterSchema structure = StructureParameters("set_epsilon");
  for (config::Parameter& parameter : structure) {
    if (parameter.name == "epsilon") parameter.default_value = epsilon;
  }
  return params::With(
      std::move(structure),
      {params::Share("zeta", zeta, "Share of each layer's weights that is replaced."),
       params::Whole("evolve_every", 1, 1, 1'000'000, "Rounds between two changes of structure."),
       params::Word("drop", "signed", {"signed", "magnitude", "random"},
                    "What goes: the weakest positive and the weakest negative weights, each by "
                    "their share (signed); the smallest magnitudes (magnitude); or any (random)."),
       params::Word("grown_weights", "normal", {"normal", "zero"},
                    "Value of a new weight: drawn from N(0, 0.1²) (normal) or 0 (zero)."),
       params::Word("final_step", "none", {"none", "remove_only"},
                    "After the last round: keep the model as trained (none), or remove once "
                    "more without growing and evaluate that (remove_only).")});
}

SetOptions SetOptionsOf(const v1::JobSpec& spec, const config::Parameters& parameters) {
  return {.budget = BudgetOf(spec, parameters),
          .zeta = parameters.Double("zeta"),
          .evolve_every = parameters.Int("evolve_every"),
          .drop = parameters.Choice("drop"),
          .grow_normal = parameters.Choice("grown_weights") == "normal",
          .final_removal = parameters.Choice("final_step") == "remove_only"};
}

}  // namespace espalier::server::methods
