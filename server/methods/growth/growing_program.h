// GrowingProgram: training in which, after some rounds, small weights give way to positions of
// large gradient.
//
// Lists:       participants report their largest gradients with their trained weights (`lists`), of
//              their own model; or the coordinator asks for the exact top-K of the mean gradient at
//              the averaged model, in further steps of the round (`exact`, exact_growth.h).
// Phases:      those of TrainingProgram, and "growth".
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/methods/training_program.h"

namespace espalier::server::methods {

struct GrowthOptions {
  double slack = 1;     // reported candidates per weight to be grown
  int64_t batches = 1;  // minibatches of the growth gradient
  bool exact = false;
  // Weights to be dropped are chosen before the round's training instead of after it.
  bool marks = false;
  // Weights that are dropped compete with inactive positions by their gradient. Not with `exact`.
  bool regrow = false;
};

// What the value `exact` of the parameter `top_k` needs of a model.
std::vector<std::pair<std::string, ModelNeed>> ExactGrowthNeeds(
    const config::Parameters& parameters);

class GrowingProgram : public TrainingProgram {
 public:
  GrowingProgram(const v1::JobSpec& spec, const GrowthOptions& growth,
                 std::shared_ptr<const pretrained::ModelLibrary> library = nullptr)
      : TrainingProgram(spec, std::move(library)), growth_(growth) {}

 protected:
  // How many weights of each tensor are replaced after the round in work; depends on the structure
  // and the round alone.
  virtual std::vector<int64_t> UpdateCounts(const ProgramState& state) const = 0;

  bool evolves() const override { return true; }
  v1::Task MakeTask(const ProgramState& state) const override;
  std::string NotesOf(const ProgramState& before) const override;
  absl::StatusOr<std::optional<Transition>> AskBeforePlanning(
      const ProgramState& state) const override;
  absl::StatusOr<Transition> NextInPrelude(ProgramState state,
                                           const reduce::Reduced& reduced) const override;
  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced& trained) const override;

  // Minibatches that growth gradients are averaged over.
  int32_t growth_batches() const { return static_cast<int32_t>(growth_.batches); }

 private:
  GrowthOptions growth_;
};

}  // namespace espalier::server::methods
