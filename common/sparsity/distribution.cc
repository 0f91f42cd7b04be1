#include "common/sparsity/distribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/status.h"

namespace espalier::sparsity {
namespace {

// Counts up to 2^53 are exact in double.
constexpr int64_t kMaxWeights = int64_t{1} << 53;

int64_t Outputs(const LayerShape& layer) { return layer.shape[0]; }

int64_t Inputs(const LayerShape& layer) { return layer.shape.size() > 1 ? layer.shape[1] : 1; }

int64_t Size(const LayerShape& layer) {
  int64_t size = 1;
  for (const int64_t dimension : layer.shape) size *= dimension;
  return size;
}

int64_t SumOfKernel(const LayerShape& layer) {
  int64_t sum = 0;
  for (size_t i = 2; i < layer.shape.size(); ++i) sum += layer.shape[i];
  return sum;
}

// Sum of the sizes, or an error when a shape is unusable.
absl::StatusOr<int64_t> CheckedTotal(const std::vector<LayerShape>& layers) {
  int64_t total = 0;
  for (size_t i = 0; i < layers.size(); ++i) {
    int64_t size = 1;
    bool valid = !layers[i].shape.empty();
    for (const int64_t dimension : layers[i].shape) {
      valid = valid && dimension >= 1 && dimension <= kMaxWeights / size;
      if (valid) size *= dimension;
    }
    if (!valid || size > kMaxWeights - total) {
      return base::InvalidArgument(
          "SHAPE_OUT_OF_RANGE",
          fmt::format("layer {}: expected positive dimensions and at most {} weights in all, found "
                      "shape [{}]",
                      i, kMaxWeights, fmt::join(layers[i].shape, ", ")));
    }
    total += size;
  }
  return total;
}

double Score(const LayerShape& layer, const DistributionOptions& options) {
  const auto in = static_cast<double>(Inputs(layer));
  const auto out = static_cast<double>(Outputs(layer));
  const auto size = static_cast<double>(Size(layer));
  switch (options.distribution) {
    case Distribution::kUniform:
      return 1.0;
    case Distribution::kErdosRenyi:
      return std::pow((in + out) / (in * out), options.power);
    case Distribution::kErdosRenyiKernel:
      return std::pow((in + out + static_cast<double>(SumOfKernel(layer))) / size, options.power);
    case Distribution::kBalanced:
      return 1.0 / size;
  }
  return 1.0;
}

int64_t DenseWeights(const std::vector<LayerShape>& layers) {
  int64_t sum = 0;
  for (const LayerShape& layer : layers) sum += layer.dense ? Size(layer) : 0;
  return sum;
}

absl::Status CheckOptions(const DistributionOptions& options) {
  if (!(options.density >= 0.0 && options.density <= 1.0)) {
    return base::InvalidArgument(
        "DENSITY_OUT_OF_RANGE",
        fmt::format("density must be between 0 and 1, found {}", options.density));
  }
  if (!std::isfinite(options.power)) {
    return base::InvalidArgument("POWER_OUT_OF_RANGE",
                                 fmt::format("power must be finite, found {}", options.power));
  }
  if (options.exempt_weights < 0 || options.exempt_weights > kMaxWeights) {
    return base::InvalidArgument("SHAPE_OUT_OF_RANGE",
                                 fmt::format("exempt weights must be between 0 and {}, found {}",
                                             kMaxWeights, options.exempt_weights));
  }
  return absl::OkStatus();
}

// Raises the budget error unless at least `needed` weights are left after the exempt ones.
absl::Status CheckBudget(double budget, int64_t needed, const DistributionOptions& options) {
  if (std::llround(budget) >= needed) return absl::OkStatus();
  return base::InvalidArgument(
      "BUDGET_TOO_SMALL",
      fmt::format("density {} leaves {:.0f} weights after {} exempt ones, but layers kept dense "
                  "need {}; raise the density or keep fewer layers dense",
                  options.density, budget, options.exempt_weights, needed));
}

// The clipping loop: scores are scaled to use up the budget, layers whose density would exceed 1
// are made dense, and the rest is scaled again. All layers that share the largest score go
// together.
void SolveScores(const std::vector<LayerShape>& layers, const DistributionOptions& options,
                 double budget, Allocation& allocation) {
  std::vector<double> scores;
  std::vector<bool> dense;
  for (size_t i = 0; i < layers.size(); ++i) {
    const double factor = options.score_factors.empty() ? 1.0 : options.score_factors[i];
    scores.push_back(factor * Score(layers[i], options));
    dense.push_back(layers[i].dense);
  }
  for (;;) {
    double rest = budget;
    double divisor = 0;
    double largest = 0;
    for (size_t i = 0; i < layers.size(); ++i) {
      const auto size = static_cast<double>(Size(layers[i]));
      rest -= dense[i] ? size : 0.0;
      divisor += dense[i] ? 0.0 : scores[i] * size;
      largest = std::max(largest, dense[i] ? 0.0 : scores[i]);
    }
    ++allocation.iterations;
    allocation.epsilon = divisor > 0 ? std::max(rest, 0.0) / divisor : 0.0;
    if (allocation.epsilon * largest <= 1) break;
    for (size_t i = 0; i < layers.size(); ++i) dense[i] = dense[i] || scores[i] == largest;
  }
  for (size_t i = 0; i < layers.size(); ++i) {
    allocation.densities.push_back(dense[i] ? 1.0 : allocation.epsilon * scores[i]);
  }
}

// Rounds densities to counts that sum to `total`: everyone gets the floor, and what is left goes to
// the largest fractional parts.
std::vector<int64_t> RoundToTotal(const std::vector<LayerShape>& layers,
                                  const std::vector<double>& densities, int64_t total) {
  std::vector<int64_t> counts(layers.size());
  std::vector<double> remainders(layers.size());
  int64_t missing = total;
  for (size_t i = 0; i < layers.size(); ++i) {
    const int64_t size = Size(layers[i]);
    const double exact = densities[i] * static_cast<double>(size);
    counts[i] = std::min(static_cast<int64_t>(exact), size);
    remainders[i] = exact - static_cast<double>(counts[i]);
    missing -= counts[i];
  }
  std::vector<size_t> order(layers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return remainders[a] > remainders[b]; });
  for (bool moved = true; missing > 0 && moved;) {
    moved = false;
    for (const size_t i : order) {
      if (missing == 0 || counts[i] == Size(layers[i])) continue;
      ++counts[i];
      --missing;
      moved = true;
    }
  }
  return counts;
}

}  // namespace

absl::StatusOr<Allocation> Allocate(const std::vector<LayerShape>& layers,
                                    const DistributionOptions& options) {
  ESPALIER_RETURN_IF_ERROR(CheckOptions(options));
  ESPALIER_ASSIGN_OR_RETURN(const int64_t total, CheckedTotal(layers));
  const auto exempt = static_cast<double>(options.exempt_weights);
  const double budget = options.density * (static_cast<double>(total) + exempt) - exempt;
  const bool uniform = options.distribution == Distribution::kUniform;
  const int64_t dense_weights = DenseWeights(layers);
  ESPALIER_RETURN_IF_ERROR(CheckBudget(budget, uniform ? 0 : dense_weights, options));
  Allocation allocation;
  if (uniform) {
    // The listed layers' own density; forced-dense layers come on top of it.
    allocation.epsilon = total > 0 ? std::clamp(budget / static_cast<double>(total), 0.0, 1.0) : 0;
    allocation.iterations = 1;
    for (const LayerShape& layer : layers) {
      allocation.densities.push_back(layer.dense ? 1.0 : allocation.epsilon);
    }
    const auto sparse_weights = static_cast<double>(total - dense_weights);
    const int64_t sum = std::llround(allocation.epsilon * sparse_weights) + dense_weights;
    allocation.counts = RoundToTotal(layers, allocation.densities, sum);
    return allocation;
  }
  SolveScores(layers, options, budget, allocation);
  allocation.counts = RoundToTotal(layers, allocation.densities, std::llround(budget));
  return allocation;
}

absl::StatusOr<std::vector<int64_t>> SetCounts(const std::vector<LayerShape>& layers,
                                               double epsilon) {
  if (!(epsilon >= 0 && std::isfinite(epsilon))) {
    return base::InvalidArgument(
        "EPSILON_OUT_OF_RANGE",
        fmt::format("epsilon must be finite and not negative, found {}", epsilon));
  }
  ESPALIER_RETURN_IF_ERROR(CheckedTotal(layers).status());
  std::vector<int64_t> counts;
  for (const LayerShape& layer : layers) {
    const int64_t size = Size(layer);
    const int64_t kernel_size = size / (Inputs(layer) * Outputs(layer));
    const auto kernel = static_cast<double>(kernel_size);
    const double wanted = epsilon * static_cast<double>(Inputs(layer) + Outputs(layer)) * kernel;
    const bool full = layer.dense || wanted >= static_cast<double>(size);
    counts.push_back(full ? size : std::llround(wanted));
  }
  return counts;
}

}  // namespace espalier::sparsity
