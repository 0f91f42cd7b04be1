// Parameters of FedTiny and of what is built on it.
#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/fedtiny/fedtiny_program.h"
#include "server/methods/gradient_growth.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"

namespace espalier::server::methods {

config::ParameterSchema FedTinyParameters(const FedTinyDefaults& defaults) {
  return {
      params::Density(defaults.density, "over all sparsifiable layers."),
      params::Whole("pool_size", 10, 1, 1000, "Candidates that are compared."),
      params::Word(
          "selection", "adaptive", {"adaptive", "vanilla", "first"},
          "How a candidate is chosen: by its loss with running statistics of the participants "
          "(adaptive), by its loss as it is (vanilla), or candidate 0 without a comparison."),
      params::Word(
          "statistics", "cumulative", {"cumulative", "exponential"},
          "Running statistics of the development set: its exact averages (cumulative), or moved by "
          "the layers' momentum from 0 and 1 (exponential, the published code's)."),
      params::Whole("passes", 5, 1, 1000,
                    "Passes over the development set with exponential statistics."),
      params::Above(params::Share("development_fraction", 0.1,
                                  "Share of a participant's training examples by which candidates "
                                  "are compared; at least one batch.")),
      params::Word(
          "bn_variance", "linear", {"linear", "pooled"},
          "How participants' variances are merged: their mean (linear, the paper's), or with "
          "the differences between their means (pooled)."),
      params::Word(
          "progressive", "block", {"block", "layer", "entire", "none"},
          "What one adjustment changes: a block of layers, one layer, all of them, or nothing "
          "ever."),
      params::Word("order", "backward", {"backward", "forward"},
                   "Blocks or layers take turns from the output to the input, or the other way."),
      params::Whole("blocks", 5, 1, 1000,
                    "Groups of neighbouring sparse layers; at most as many as there are layers."),
      params::Share("alpha", defaults.alpha,
                    "Share of a layer's weights that an adjustment at round 0 would replace; it "
                    "falls with half a cosine to 0 at stop_round."),
      params::UpdateEvery(10, "adjustments"),
      params::StopRound(100),
      params::GrowthBatches(),
      params::TopK(),
  };
}

void ValidateFedTiny(const v1::JobSpec& spec, const config::Parameters& parameters,
                     std::vector<config::Violation>& violations) {
  // Every candidate looks through the dense model once.
  constexpr int64_t kMaxPositions = int64_t{1} << 31;
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok()) return;
  int64_t positions = 0;
  for (const tensor::TensorSpec& tensor : **layout) {
    positions += std::min(tensor.size(), kMaxPositions);
  }
  if (positions > kMaxPositions) {
    violations.push_back(
        {"model.layers",
         fmt::format("candidates are pruned from a dense model of at most {} weights, found "
                     "more; use a smaller model, or method rigl",
                     kMaxPositions)});
    return;
  }
  const int64_t layers = std::ranges::count_if(
      **layout, [](const tensor::TensorSpec& tensor) { return tensor.sparsifiable; });
  if (layers == 0) {
    violations.push_back({"method.name",
                          "every layer of the model is marked dense, so there is nothing to prune; "
                          "use method dense, or unmark a layer"});
    return;
  }
  const Budget budget{.distribution = "erk", .density = parameters.Double("density")};
  if (const auto counts = StoredCounts(**layout, budget); !counts.ok()) {
    violations.push_back({"method.parameters.density", base::MessageOf(counts.status())});
  }
  if (IsGiven(spec, "blocks") && parameters.Int("blocks") > layers) {
    violations.push_back({"method.parameters.blocks",
                          fmt::format("the model has {} sparsifiable layers, found {} blocks; use "
                                      "at most as many blocks as layers",
                                      layers, parameters.Int("blocks"))});
  }
}

absl::StatusOr<std::vector<int64_t>> PoolCounts(const v1::JobSpec& spec,
                                                const config::Parameters& parameters) {
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  return StoredCounts(*layout, {.distribution = "erk", .density = parameters.Double("density")});
}

absl::StatusOr<CoordinatorDemand> FedTinyDemand(const v1::JobSpec& spec,
                                                const config::Parameters& parameters) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> counts, PoolCounts(spec, parameters));
  const double slack = parameters.Choice("top_k") == "exact" ? kExactSlack : 1;
  ESPALIER_ASSIGN_OR_RETURN(CoordinatorDemand demand,
                            GrowthDemand(spec, counts, parameters.Double("alpha"), slack));
  // A candidate is chosen tensor by tensor.
  demand.selected = static_cast<double>(*std::ranges::max_element(counts));
  // Of a candidate, the weights and their places, each also as it is published.
  constexpr double kCandidateBytes = 16;
  const int64_t pool = parameters.Int("pool_size");
  const int64_t group = std::min(kCandidatesAtOnce, pool);
  // A group, and where there is another one also that while it is made, and the best one so far.
  const int64_t others = pool > group ? 2 * group : group - 1;
  demand.steps = static_cast<double>(group);
  demand.other_bytes += kCandidateBytes * static_cast<double>(others) *
                        std::accumulate(counts.begin(), counts.end(), 0.0);
  return demand;
}

FedTinyOptions FedTinyOptionsOf(const v1::JobSpec& spec, const config::Parameters& parameters) {
  return FedTinyOptions{
      .density = parameters.Double("density"),
      .pool_size = parameters.Int("pool_size"),
      .selection = parameters.Choice("selection"),
      .exponential = parameters.Choice("statistics") == "exponential",
      .passes = parameters.Int("passes"),
      .development_fraction = parameters.Double("development_fraction"),
      .pooled_variance = parameters.Choice("bn_variance") == "pooled",
      .progressive = parameters.Choice("progressive"),
      .backward = parameters.Choice("order") == "backward",
      .blocks = parameters.Int("blocks"),
      .alpha = parameters.Double("alpha"),
      .update_every = parameters.Int("update_every"),
      .stop_round = std::min<int64_t>(parameters.Int("stop_round"), spec.federation().rounds()),
      .growth = {.batches = parameters.Int("growth_batches"),
                 .exact = parameters.Choice("top_k") == "exact"}};
}

}  // namespace espalier::server::methods
