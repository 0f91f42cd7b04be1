#include "server/methods/structure.h"

#include <fmt/core.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "common/base/limits.h"
#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/distribution.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/parameters/params.h"

namespace espalier::server::methods {
namespace {

constexpr int64_t kMaxStored = std::numeric_limits<int32_t>::max();
constexpr char kSetEpsilon[] = "set_epsilon";
constexpr char kSparsifiable[] = "sparsifiable";
constexpr char kAll[] = "all";

sparsity::Distribution DistributionOf(const std::string& name) {
  if (name == "uniform") return sparsity::Distribution::kUniform;
  if (name == "er") return sparsity::Distribution::kErdosRenyi;
  return sparsity::Distribution::kErdosRenyiKernel;
}

absl::StatusOr<std::vector<int64_t>> SparseCounts(const std::vector<sparsity::LayerShape>& layers,
                                                  const Budget& budget) {
  if (budget.distribution == kSetEpsilon) return sparsity::SetCounts(layers, budget.epsilon);
  sparsity::DistributionOptions options;
  options.distribution = DistributionOf(budget.distribution);
  options.density = budget.density;
  ESPALIER_ASSIGN_OR_RETURN(sparsity::Allocation allocation, sparsity::Allocate(layers, options));
  return std::move(allocation.counts);
}

}  // namespace

bool IsGiven(const v1::JobSpec& spec, const std::string& name) {
  return spec.method().parameters().contains(name);
}

config::ParameterSchema StructureParameters(const std::string& default_distribution) {
  return {params::Word(
              "distribution", default_distribution, {"uniform", "er", "erk", kSetEpsilon},
              "How weights are shared out over layers: the same density everywhere (uniform), "
              "Erdős–Rényi (er, erk; equal for linear layers), or ε·(inputs + outputs) weights per "
              "layer, of a convolution times kernel² (set_epsilon). If only density or only "
              "epsilon is given, one that uses it."),
          params::Density(0.1, "over all sparsifiable layers. Not with set_epsilon."),
          params::Word(
              "density_over", kSparsifiable, {kSparsifiable, kAll},
              "What density is a share of: the weights of sparsifiable layers, or all parameters "
              "(all), of which biases, norms and layers marked dense count as active. Not with "
              "set_epsilon."),
          params::Above(params::Number("epsilon", 20, 0, 1e6,
                                       "Weights of a layer per unit that it joins. Only with "
                                       "set_epsilon."))};
}

namespace {

// The density of sparsifiable layers that leaves `density` of all parameters active, the others
// being dense: (density · all − exempt) / sparsifiable. Not positive where the exempt ones are too
// many.
double DensityOfSparsifiable(const tensor::ModelLayout& layout, double density) {
  double all = 0;
  double sparsifiable = 0;
  for (const tensor::TensorSpec& tensor : layout) {
    if (tensor.buffer) continue;  // running statistics are no parameters
    const auto size = static_cast<double>(tensor.size());
    all += size;
    if (tensor.sparsifiable) sparsifiable += size;
  }
  if (sparsifiable == 0) return density;
  return (density * all - (all - sparsifiable)) / sparsifiable;
}

bool IsOverAll(const config::Parameters& parameters) {
  return parameters.Choice("density_over") == kAll;
}

}  // namespace

Budget BudgetOf(const v1::JobSpec& spec, const config::Parameters& parameters) {
  Budget budget{parameters.Choice("distribution"), parameters.Double("density"),
                parameters.Double("epsilon")};
  if (IsOverAll(parameters)) {
    const auto layout = wire::LayoutOf(spec.model());
    if (layout.ok()) budget.density = DensityOfSparsifiable(**layout, budget.density);
  }
  if (IsGiven(spec, "distribution")) return budget;
  if (IsGiven(spec, "epsilon")) {
    budget.distribution = kSetEpsilon;
  } else if (IsGiven(spec, "density") && budget.distribution == kSetEpsilon) {
    budget.distribution = "er";
  }
  return budget;
}

void ValidateBudget(const v1::JobSpec& spec, const config::Parameters& parameters,
                    std::vector<config::Violation>& violations) {
  const Budget budget = BudgetOf(spec, parameters);
  if (budget.distribution == kSetEpsilon && IsGiven(spec, "density")) {
    violations.push_back({"method.parameters.density",
                          "has no effect with distribution set_epsilon; leave it out, or choose "
                          "distribution uniform, er or erk"});
  }
  if (budget.distribution == kSetEpsilon && IsOverAll(parameters)) {
    violations.push_back({"method.parameters.density_over",
                          "has no effect with distribution set_epsilon; leave it out, or choose "
                          "distribution uniform, er or erk"});
  }
  if (budget.distribution != kSetEpsilon && IsGiven(spec, "epsilon")) {
    violations.push_back(
        {"method.parameters.epsilon",
         fmt::format("has no effect with distribution {}; leave it out, or choose set_epsilon",
                     budget.distribution)});
  }
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok()) return;
  const bool any =
      std::any_of((*layout)->begin(), (*layout)->end(),
                  [](const tensor::TensorSpec& tensor) { return tensor.sparsifiable; });
  if (!any) {
    violations.push_back({"method.name",
                          "every layer of the model is marked dense, so there is nothing to make "
                          "sparse; use method dense, or unmark a layer"});
    return;
  }
  if (IsOverAll(parameters) && !(budget.density > 0)) {
    violations.push_back(
        {"method.parameters.density",
         fmt::format(
             "{} of all parameters is fewer than those that are never sparse (biases, norms, "
             "layers marked dense); raise it, or use density_over: sparsifiable",
             parameters.Double("density"))});
    return;
  }
  // A trained model whose zeros are kept says how many weights there are.
  const bool any_given =
      IsGiven(spec, "density") || IsGiven(spec, "distribution") || IsGiven(spec, "epsilon");
  if (!spec.model().pretrained().empty() && !any_given) return;
  if (const auto counts = StoredCounts(**layout, budget); !counts.ok()) {
    violations.push_back({"method.parameters", base::MessageOf(counts.status())});
  }
}

void ValidateUpdateSize(const std::string& what, int64_t floats,
                        std::vector<config::Violation>& violations) {
  const double bytes = 4 * static_cast<double>(floats);
  const auto most = static_cast<double>(base::Limits().max_update_bytes);
  if (bytes <= most) return;
  violations.push_back(
      {"model.layers",
       fmt::format(
           "{} of a worker would take {:.0f} bytes in one update, expected at most {:.0f}; "
           "use a smaller model, or a method that stays sparse (static, set, rigl, fedtiny)",
           what, bytes, most)});
}

void ValidateDenseStart(const v1::JobSpec& spec, const tensor::ModelLayout& layout, int64_t extra,
                        std::vector<config::Violation>& violations) {
  const auto counts = StoredCounts(layout, {.distribution = "uniform", .density = 1});
  if (!counts.ok()) {
    violations.push_back({"model.layers", base::MessageOf(counts.status())});
    return;
  }
  v1::Task task;
  *task.mutable_train()->mutable_training() = spec.training();
  const int64_t values = std::accumulate(counts->begin(), counts->end(), int64_t{0});
  ValidateUpdateSize(extra > 0 ? "dense values and scores" : "dense values",
                     wire::ValuesPerWeight(task) * values + extra, violations);
}

absl::StatusOr<std::vector<int64_t>> StoredCounts(const tensor::ModelLayout& layout,
                                                  const Budget& budget) {
  std::vector<sparsity::LayerShape> layers;
  for (const tensor::TensorSpec& tensor : layout) {
    if (tensor.sparsifiable) layers.push_back({.shape = tensor.shape});
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> sparse, SparseCounts(layers, budget));
  std::vector<int64_t> counts;
  size_t next = 0;
  for (const tensor::TensorSpec& tensor : layout) {
    counts.push_back(tensor.sparsifiable ? sparse[next++] : tensor.size());
    if (counts.back() == 0) {
      return base::InvalidArgument(
          "LAYER_EMPTY", fmt::format("{} would keep none of its {} weights, so that nothing passes "
                                     "it; raise the density, or mark the layer dense",
                                     tensor.name, tensor.size()));
    }
    if (counts.back() <= kMaxStored) continue;
    return base::InvalidArgument(
        "MODEL_TOO_LARGE", fmt::format("{} would store {} values, expected at most {}; lower the "
                                       "density or use fewer units",
                                       tensor.name, counts.back(), kMaxStored));
  }
  return counts;
}

absl::StatusOr<std::vector<int64_t>> StoredCountsOf(const v1::JobSpec& spec,
                                                    const config::Parameters& parameters) {
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  return StoredCounts(*layout, BudgetOf(spec, parameters));
}

absl::StatusOr<CoordinatorDemand> DenseStructureDemand(const v1::JobSpec& spec,
                                                       const config::Parameters&) {
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  CoordinatorDemand demand;
  for (const tensor::TensorSpec& tensor : *layout) {
    if (tensor.sparsifiable) demand.selected += static_cast<double>(tensor.size());
  }
  return demand;
}

absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> RandomStructure(
    const tensor::ModelLayout& layout, const Budget& budget, uint64_t seed) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> counts, StoredCounts(layout, budget));
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout.size());
  for (size_t i = 0; i < layout.size(); ++i) {
    if (counts[i] == layout[i].size()) continue;
    ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                              sparsity::RandomTopology(layout[i].rows, layout[i].cols, counts[i],
                                                       base::StreamKey(seed, "topology", {i})));
    topologies[i] = std::make_shared<const tensor::Topology>(std::move(topology));
  }
  return topologies;
}

}  // namespace espalier::server::methods
