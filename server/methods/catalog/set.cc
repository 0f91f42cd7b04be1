// set: Sparse Evolutionary Training (Mocanu et al., Nature Communications 9, 2018).
#include <memory>

#include "server/methods/catalog/catalog.h"
#include "server/methods/set/set_program.h"
#include "server/methods/start/trained_start.h"

namespace espalier::server::methods {

MethodDeclaration SetMethod(const Library& library) {
  return {
      .name = "set",
      .summary = "Sparse Evolutionary Training: drop the weakest weights, grow as many at random.",
      .source =
          "Mocanu et al., Scalable training of artificial neural networks with adaptive sparse "
          "connectivity inspired by network science, Nature Communications 9, 2018",
      .parameters = SetParameters(/*epsilon=*/20, /*zeta=*/0.3),
      .begins_trained = true,
      .keeps_zeros = true,
      .validate = ValidateBudget,
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<SetProgram>(spec, SetOptionsOf(spec, parameters), library);
          },
      .stored_counts =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return StartCounts(spec, parameters, library.get());
          },
  };
}

}  // namespace espalier::server::methods
