// essential-sparsity: see pruning/sweep/sweep_program.h.
#include <cmath>
#include <utility>

#include "server/methods/catalog/catalog.h"
#include "server/methods/parameters/params.h"
#include "server/methods/pruning/pruned_kind.h"

namespace espalier::server::methods {
namespace {

// 0 < x < 1.
config::Parameter Between(std::string name, double default_value, std::string doc) {
  return params::Above(
      params::Below(params::Share(std::move(name), default_value, std::move(doc))));
}

SweepSettings SweepSettingsOf(const config::Parameters& parameters) {
  SweepSettings settings;
  settings.tolerance = parameters.Double("tolerance");
  const double from = parameters.Double("from");
  const double step = parameters.Double("step");
  const auto steps = static_cast<int>(std::floor((parameters.Double("to") - from) / step + 1e-9));
  for (int i = 0; i <= steps; ++i) settings.sparsities.push_back(from + i * step);
  return settings;
}

}  // namespace

MethodDeclaration EssentialSparsityMethod(const Library& library) {
  return {
      .name = "essential-sparsity",
      .summary = "One trained model, pruned at many sparsities, and the knee of the curve.",
      .source = "Jaiswal et al., NeurIPS 2023 (arXiv 2306.03805), without fine-tuning",
      .parameters = {Between("from", 0.1, "First sparsity, over all pruned layers together."),
                     Between("to", 0.9, "Last sparsity."),
                     Between("step", 0.1, "Distance between sparsities."),
                     Between(
                         "tolerance", 0.01,
                         "Share of the dense model's performance (accuracy; of a language model "
                         "1 / perplexity) that may be lost at the knee.")},
      .prunes = true,
      .needs = {ModelNeed::kPruning},
      .validate =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters,
                    std::vector<config::Violation>& violations) {
            constexpr double kMostSteps = 1000;
            const double range = parameters.Double("to") - parameters.Double("from");
            if (range < 0) {
              violations.push_back(
                  {"method.parameters.to", "expected at least method.parameters.from, found less"});
            } else if (range / parameters.Double("step") > kMostSteps) {
              violations.push_back({"method.parameters.step",
                                    "expected at most 1,000 sparsities, "
                                    "found more; use a larger step"});
            }
            PrunedKindOf(spec.model()).Validate(spec, library, violations);
          },
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return PrunedKindOf(spec.model()).MakeSweep(spec, SweepSettingsOf(parameters), library);
          },
      .demand =
          [library](const v1::JobSpec& spec, const config::Parameters&) {
            return PrunedKindOf(spec.model()).Demand(spec, library);
          },
      .rounds = [](const v1::JobSpec&,
                   const config::Parameters& parameters) -> absl::StatusOr<int32_t> {
        return static_cast<int32_t>(SweepSettingsOf(parameters).sparsities.size());
      },
  };
}

}  // namespace espalier::server::methods
