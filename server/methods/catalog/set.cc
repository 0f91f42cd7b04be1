// set: Sparse Evolutionary Training (Mocanu et al., Nature Communications 9, 2018).
#include <memory>
#include <utility>

#include "common/base/rng.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/schedule.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/parameters/params.h"
#include "server/methods/start/trained_start.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

constexpr double kGrownDeviation = 0.1;

struct SetOptions {
  Budget budget;
  double zeta;
  int64_t evolve_every;
  std::string drop;
  bool grow_normal;
  bool final_removal;
};

class SetProgram : public TrainingProgram {
 public:
  SetProgram(const v1::JobSpec& spec, SetOptions options,
             std::shared_ptr<const pretrained::ModelLibrary> library)
      : TrainingProgram(spec, std::move(library)), options_(std::move(options)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return StartStructure(spec(), layout, options_.budget, library());
  }
  bool evolves() const override { return true; }

  v1::PrivateUpdate PrivateRule(int32_t round) const override {
    v1::PrivateUpdate rule;
    if (round < rounds() && round % options_.evolve_every == 0) rule.set_fraction(options_.zeta);
    rule.set_drop(options_.drop == "signed" ? v1::PrivateUpdate::DROP_SIGNED
                                            : v1::PrivateUpdate::DROP_MAGNITUDE);
    rule.set_grow_random(true);
    return rule;
  }

  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced&) const override {
    if (RoundInWork(state) % options_.evolve_every != 0) return Evolution{};
    Evolution evolution = Removal(state);
    for (StructureChange::Tensor& change : evolution) {
      GrowAtRandom(*state.model.topology, Key(state, "grow", change.tensor), change);
    }
    return evolution;
  }

  absl::StatusOr<Evolution> FinalRemoval(const ProgramState& state) const override {
    return options_.final_removal ? Removal(state) : Evolution{};
  }

  std::vector<float> GrownWeights(const ProgramState& state,
                                  const StructureChange::Tensor& change) const override {
    std::vector<float> values(change.diff.grown.size(), 0.0f);
    if (!options_.grow_normal) return values;
    base::Rng rng(Key(state, "grown-values", change.tensor));
    for (float& value : values) value = static_cast<float>(kGrownDeviation * rng.Normal());
    return values;
  }

 private:
  uint64_t Key(const ProgramState& state, std::string_view purpose, uint64_t tensor) const {
    return base::StreamKey(seed(), purpose, {tensor, static_cast<uint64_t>(RoundInWork(state))});
  }

  // What every sparse tensor loses in the round in work; nothing is grown yet.
  Evolution Removal(const ProgramState& state) const {
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

  std::vector<int32_t> Dropped(const ProgramState& state, size_t tensor) const {
    const auto values = state.model.tensor(tensor);
    if (options_.drop == "signed") return sparsity::DropSetSigned(values, options_.zeta);
    const auto nnz = static_cast<int64_t>(values.size());
    const int64_t count = sparsity::FractionOf(options_.zeta, nnz);
    if (options_.drop == "magnitude") return sparsity::DropSmallestMagnitude(values, count);
    return sparsity::DropRandom(nnz, count, Key(state, "drop", tensor));
  }

  SetOptions options_;
};

config::ParameterSchema SetParameters() {
  return params::With(
      StructureParameters("set_epsilon"),
      {params::Share("zeta", 0.3, "Share of each layer's weights that is replaced."),
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

}  // namespace

MethodDeclaration SetMethod(const Library& library) {
  return {
      .name = "set",
      .summary = "Sparse Evolutionary Training: drop the weakest weights, grow as many at random.",
      .source =
          "Mocanu et al., Scalable training of artificial neural networks with adaptive sparse "
          "connectivity inspired by network science, Nature Communications 9, 2018",
      .parameters = SetParameters(),
      .begins_trained = true,
      .keeps_zeros = true,
      .validate = ValidateBudget,
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<SetProgram>(
                spec,
                SetOptions{.budget = BudgetOf(spec, parameters),
                           .zeta = parameters.Double("zeta"),
                           .evolve_every = parameters.Int("evolve_every"),
                           .drop = parameters.Choice("drop"),
                           .grow_normal = parameters.Choice("grown_weights") == "normal",
                           .final_removal = parameters.Choice("final_step") == "remove_only"},
                library);
          },
      .stored_counts =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return StartCounts(spec, parameters, library.get());
          },
  };
}

}  // namespace espalier::server::methods
