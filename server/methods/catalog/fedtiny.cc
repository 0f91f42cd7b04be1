// fedtiny: see fedtiny_program.h.
#include <memory>
#include <utility>

#include "server/methods/catalog/catalog.h"
#include "server/methods/fedtiny/fedtiny_program.h"

namespace espalier::server::methods {

MethodDeclaration FedtinyMethod(const Library& library) {
  return {.name = "fedtiny",
          .summary =
              "FedTiny: choose a pruned candidate by recalibrated batch norm, then prune and "
              "grow block by block.",
          .source =
              "Huang et al., Distributed pruning towards tiny neural networks in federated "
              "learning, ICDCS 2023",
          .parameters = FedTinyParameters({}),
          .begins_trained = true,
          .needs = {ModelNeed::kTraining, ModelNeed::kLoss, ModelNeed::kCalibration},
          .validate = ValidateFedTiny,
          .make =
              [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
                return std::make_unique<FedTinyProgram>(spec, FedTinyOptionsOf(spec, parameters),
                                                        library);
              },
          .stored_counts = PoolCounts,
          .demand = FedTinyDemand,
          .needs_of_parameters = ExactGrowthNeeds};
}

}  // namespace espalier::server::methods
