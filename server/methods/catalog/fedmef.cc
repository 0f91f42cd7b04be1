// fedmef: FedTiny's loop, in which weights are emptied before they are dropped, with pruned
// activations (Huang et al., CVPR 2024).
#include <fmt/core.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "server/methods/catalog/catalog.h"
#include "server/methods/fedtiny/fedtiny_program.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"

namespace espalier::server::methods {
namespace {

struct FedMefOptions {
  double lambda;
  bool rex;  // the learning rate's floor
  double activation_pruning;
};

class FedMefProgram : public FedTinyProgram {
 public:
  FedMefProgram(const v1::JobSpec& spec, FedTinyOptions fedtiny, const FedMefOptions& options,
                std::shared_ptr<const pretrained::ModelLibrary> library)
      : FedTinyProgram(spec, std::move(fedtiny), std::move(library)), options_(options) {}

 protected:
  v1::Task MakeTask(const ProgramState& state) const override {
    v1::Task task = FedTinyProgram::MakeTask(state);
    v1::TrainTask& train = *task.mutable_train();
    if (train.training().activation_pruning() == 0) {
      train.mutable_training()->set_activation_pruning(options_.activation_pruning);
    }
    const std::vector<int64_t> counts = UpdateCounts(state);
    if (std::ranges::all_of(counts, [](int64_t count) { return count == 0; })) return task;
    v1::Extrusion& extrusion = *train.add_additions()->mutable_extrusion();
    extrusion.mutable_counts()->Assign(counts.begin(), counts.end());
    extrusion.set_lambda(options_.lambda);
    if (options_.rex) {
      extrusion.set_learning_rate_cap(spec().training().optimizer().learning_rate());
    }
    return task;
  }

 private:
  FedMefOptions options_;
};

config::ParameterSchema FedMefParameters() {
  return params::With(
      FedTinyParameters({.alpha = 0.4}),
      {params::Number("lambda", 1e-4, 0, 1e6,
                      "Factor of the squared norm of the weights that are about to be dropped, "
                      "in the loss of the round before."),
       params::Word("extrusion_rate", "rex", {"rex", "schedule"},
                    "Learning rate in that round: with a floor that falls from at most the "
                    "optimizer's as REX does (rex), or by the job's schedule alone."),
       params::Number("activation_pruning", 0.5, 0, 0.999,
                      "Share of stored activations that weight gradients take as 0; "
                      "training.activation_pruning, if given, takes its place.")});
}

void ValidateFedMef(const v1::JobSpec& spec, const config::Parameters& parameters,
                    std::vector<config::Violation>& violations) {
  ValidateFedTiny(spec, parameters, violations);
  if (spec.training().control_variates()) {
    violations.push_back({"training.control_variates",
                          "would take fedmef's extrusion, which changes the loss and the learning "
                          "rate of some rounds, for a participant's gradient; remove it, or use "
                          "method fedtiny"});
  }
  if (spec.training().activation_pruning() != 0 && IsGiven(spec, "activation_pruning")) {
    violations.push_back(
        {"method.parameters.activation_pruning",
         fmt::format("training.activation_pruning ({}) takes its place; remove one "
                     "of them",
                     spec.training().activation_pruning())});
  }
}

}  // namespace

MethodDeclaration FedmefMethod(const Library& library) {
  return {.name = "fedmef",
          .summary =
              "FedMef: as fedtiny, emptying weights before they are dropped, with pruned "
              "activations.",
          .source =
              "Huang et al., FedMef: towards memory-efficient federated dynamic pruning, CVPR 2024",
          .parameters = FedMefParameters(),
          .begins_trained = true,
          .needs = {ModelNeed::kTraining, ModelNeed::kLoss, ModelNeed::kCalibration,
                    ModelNeed::kExtrusion},
          .validate = ValidateFedMef,
          .make =
              [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
                FedTinyOptions fedtiny = FedTinyOptionsOf(spec, parameters);
                fedtiny.growth.marks = true;
                return std::make_unique<FedMefProgram>(
                    spec, std::move(fedtiny),
                    FedMefOptions{.lambda = parameters.Double("lambda"),
                                  .rex = parameters.Choice("extrusion_rate") == "rex",
                                  .activation_pruning = parameters.Double("activation_pruning")},
                    library);
              },
          .stored_counts = PoolCounts,
          .demand = FedTinyDemand,
          .needs_of_parameters = ExactGrowthNeeds};
}

}  // namespace espalier::server::methods
