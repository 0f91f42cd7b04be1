// magnitude, wanda, sparsegpt, dsnot and essential-sparsity: what prunes a trained model.
#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/pruning/activation_statistics.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/builtin.h"
#include "server/methods/pruning/language_program.h"
#include "server/methods/pruning/network_program.h"
#include "server/methods/pruning/sweep_program.h"

namespace espalier::server::methods {
namespace {

using Library = std::shared_ptr<const pretrained::ModelLibrary>;
using Violations = std::vector<config::Violation>;

void AddViolation(const std::string& field, const absl::Status& status, Violations& violations) {
  if (!status.ok()) violations.push_back({field, base::MessageOf(status)});
}

// Whether the model exists and can be pruned so. Widths of networks are checked when the job runs.
void CheckModel(const v1::JobSpec& spec, const PruningSettings* settings, const Library& library,
                Violations& violations) {
  const std::string& name = spec.model().pretrained();
  if (library == nullptr || name.empty() || IsNetwork(spec.model())) return;
  const auto of_model = [](const config::Violation& v) { return v.field == "model.pretrained"; };
  if (std::any_of(violations.begin(), violations.end(), of_model)) return;  // there is none
  if (!spec.data().has_text()) {
    violations.push_back({"data.text",
                          "a language model reads text: set data.text.context, the tokens of one "
                          "sequence"});
  }
  const auto reader = library->OpenLanguageModel(name);
  AddViolation("model.pretrained", reader.status(), violations);
  if (!reader.ok()) return;
  if (settings != nullptr) {
    AddViolation("method.parameters.pattern", CheckLanguageModel((*reader)->config(), *settings),
                 violations);
  }
  if (spec.data().text().context() > (*reader)->config().context) {
    violations.push_back(
        {"data.text.context", "expected at most " + std::to_string((*reader)->config().context) +
                                  " tokens, the positions that the model knows, found " +
                                  std::to_string(spec.data().text().context())});
  }
}

// What these methods compute of a layer's outputs is by its weights as they are stored.
void RefuseStandardizedWeights(const std::string& method, const v1::ModelSpec& model,
                               Violations& violations) {
  const auto tensors = wire::TensorsOf(model);
  if (method == "magnitude" || model.layers().empty() || !tensors.ok()) return;
  for (const wire::ModelTensor& tensor : *tensors) {
    if (!tensor.spec.name.ends_with(".scale")) continue;
    violations.push_back(
        {"model.pretrained",
         "expected convolutions that multiply by their weights, found standardised "
         "ones (" +
             tensor.spec.name + "); use magnitude or essential-sparsity"});
    return;
  }
}

// Blocks of a language model, or layers of a network.
absl::StatusOr<int32_t> RoundsOf(const v1::JobSpec& spec, const Library& library) {
  if (IsNetwork(spec.model())) {
    ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
    return static_cast<int32_t>(std::max<size_t>(1, SparsifiableTensors(*layout).size()));
  }
  if (library == nullptr) return 1;
  ESPALIER_ASSIGN_OR_RETURN(const auto reader,
                            library->OpenLanguageModel(spec.model().pretrained()));
  return static_cast<int32_t>(reader->config().blocks);
}

// Statistics of one layer's inputs: their sums, a copy while an update is added, and the update in
// both of its forms; and the matrices that come of them.
double StatisticsBytes(int64_t columns) {
  constexpr double kCopies = 4;
  constexpr double kMatrices = 3;
  const auto inputs = static_cast<double>(columns);
  return kCopies * static_cast<double>(
                       sparsity::ActivationStatistics::EncodedBytes(columns, /*with_gram=*/true)) +
         kMatrices * sizeof(double) * inputs * inputs;
}

// What is pruned at one time: a layer of a network, or a block of a language model.
absl::StatusOr<CoordinatorDemand> PruningDemand(const v1::JobSpec& spec, const Library& library) {
  constexpr double kBlockCopies = 4;
  CoordinatorDemand demand;
  if (IsNetwork(spec.model())) {
    ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
    for (const size_t i : SparsifiableTensors(*layout)) {
      demand.other_bytes = std::max(demand.other_bytes, StatisticsBytes((*layout)[i].cols));
    }
    return demand;
  }
  if (library == nullptr) return demand;
  ESPALIER_ASSIGN_OR_RETURN(const auto reader,
                            library->OpenLanguageModel(spec.model().pretrained()));
  const language::TransformerConfig& config = reader->config();
  const auto hidden = static_cast<double>(config.hidden);
  const double attention =
      hidden * static_cast<double>(2 * config.query_width() + 2 * config.kv_width());
  const double weights = attention + 3 * hidden * static_cast<double>(config.intermediate);
  demand.other_bytes = kBlockCopies * sizeof(float) * weights;
  for (const int64_t columns :
       {config.hidden, config.query_width(), config.hidden, config.intermediate}) {
    demand.other_bytes += StatisticsBytes(columns);
  }
  return demand;
}

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
            CheckModel(spec, &settings, library, violations);
            if (settings.cumulative && settings.pattern.grouped()) {
              violations.push_back({"method.parameters.cumulative",
                                    "lets rows lose different numbers of weights, and a pattern "
                                    "leaves equally many in every group; remove one of them"});
            }
            RefuseStandardizedWeights(name, spec.model(), violations);
          },
      .make = [name, library](const v1::JobSpec& spec,
                              const config::Parameters& parameters) -> std::unique_ptr<Program> {
        const PruningSettings settings = PruningSettingsOf(name, parameters);
        if (IsNetwork(spec.model())) {
          return std::make_unique<NetworkPruningProgram>(spec, settings, library);
        }
        return std::make_unique<LanguagePruningProgram>(spec, settings, library);
      },
      .demand = [library](const v1::JobSpec& spec,
                          const config::Parameters&) { return PruningDemand(spec, library); },
      .rounds = [library](const v1::JobSpec& spec,
                          const config::Parameters&) { return RoundsOf(spec, library); },
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
            CheckModel(spec, nullptr, library, violations);
          },
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<SweepProgram>(spec, SweepSettingsOf(parameters), library);
          },
      .demand = [library](const v1::JobSpec& spec,
                          const config::Parameters&) { return PruningDemand(spec, library); },
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
