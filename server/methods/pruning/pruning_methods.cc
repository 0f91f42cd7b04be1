// magnitude, wanda, sparsegpt, dsnot and essential-sparsity: what prunes a trained model.
#include <cmath>
#include <utility>

#include "server/methods/builtin.h"
#include "server/methods/pruning/pruned_kind.h"

namespace espalier::server::methods {
namespace {

using Library = std::shared_ptr<const pretrained::ModelLibrary>;
using Violations = std::vector<config::Violation>;

MethodDeclaration PruningMethod(const std::string& name, const std::string& summary,
                                const std::string& source, const Library& library) {
  return {
      .name = name,
      .summary = summary,
      .source = source,
      .parameters = PruningParameters(name),
      .prunes = true,
      .needs = {ModelNeed::kPruning},
      .validate =
          [name, library](const v1::JobSpec& spec, const config::Parameters& parameters,
                          Violations& violations) {
            const PruningSettings settings = PruningSettingsOf(name, parameters);
            const PrunedKind& kind = PrunedKindOf(spec.model());
            kind.Validate(spec, library, violations);
            kind.ValidateSettings(spec, settings, library, violations);
            if (settings.cumulative && settings.pattern.grouped()) {
              violations.push_back({"method.parameters.cumulative",
                                    "lets rows lose different numbers of weights, and a pattern "
                                    "leaves equally many in every group; remove one of them"});
            }
          },
      .make =
          [name, library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return PrunedKindOf(spec.model())
                .MakeProgram(spec, PruningSettingsOf(name, parameters), library);
          },
      .demand =
          [library](const v1::JobSpec& spec, const config::Parameters&) {
            return PrunedKindOf(spec.model()).Demand(spec, library);
          },
      .rounds =
          [library](const v1::JobSpec& spec, const config::Parameters&) {
            return PrunedKindOf(spec.model()).Rounds(spec, library);
          },
  };
}

config::Parameter Number(std::string name, double default_value, double min, double max,
                         std::string doc) {
  config::Parameter parameter;
  parameter.name = std::move(name);
  parameter.default_value = default_value;
  parameter.min = min;
  parameter.max = max;
  parameter.min_exclusive = true;
  parameter.max_exclusive = true;
  parameter.doc = std::move(doc);
  return parameter;
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

MethodDeclaration EssentialSparsityMethod(const Library& library) {
  return {
      .name = "essential-sparsity",
      .summary = "One trained model, pruned at many sparsities, and the knee of the curve.",
      .source = "Jaiswal et al., NeurIPS 2023 (arXiv 2306.03805), without fine-tuning",
      .parameters = {Number("from", 0.1, 0, 1, "First sparsity, over all pruned layers together."),
                     Number("to", 0.9, 0, 1, "Last sparsity."),
                     Number("step", 0.1, 0, 1, "Distance between sparsities."),
                     Number("tolerance", 0.01, 0, 1,
                            "Share of the dense model's performance (accuracy; of a language model "
                            "1 / perplexity) that may be lost at the knee.")},
      .prunes = true,
      .needs = {ModelNeed::kPruning},
      .validate =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters,
                    Violations& violations) {
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

}  // namespace

std::vector<MethodDeclaration> PruningMethods(Library library) {
  return {
      PruningMethod("magnitude", "Prunes the smallest weights of each layer of a trained model.",
                    "Han et al., NeurIPS 2015; one threshold per layer", library),
      PruningMethod("wanda", "Prunes by |weight| times the norm of its input, row by row.",
                    "Sun, Liu, Bair, Kolter, ICLR 2024 (arXiv 2306.11695)", library),
      PruningMethod("sparsegpt",
                    "One-shot pruning that moves what is lost into the weights that stay.",
                    "Frantar, Alistarh, ICML 2023 (arXiv 2301.00774)", library),
      PruningMethod("dsnot",
                    "Refines the mask of a pruned model without training: prune and regrow by the "
                    "expected output error.",
                    "Zhang et al., ICLR 2024 (arXiv 2310.08915)", library),
      EssentialSparsityMethod(library)};
}

}  // namespace espalier::server::methods
