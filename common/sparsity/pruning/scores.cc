#include "common/sparsity/pruning/scores.h"

#include <cmath>

#include "common/base/status.h"
#include "common/sparsity/pruning/parallel_rows.h"

namespace espalier::sparsity {

std::vector<float> WandaFactors(std::span<const double> sum_squares) {
  std::vector<float> factors;
  factors.reserve(sum_squares.size());
  for (const double square : sum_squares) factors.push_back(static_cast<float>(std::sqrt(square)));
  return factors;
}

absl::StatusOr<Mask> MaskByRows(const WeightsView& weights, std::span<const float> factors,
                                const Pattern& pattern, int threads) {
  ESPALIER_RETURN_IF_ERROR(CheckPattern(pattern, weights.columns));
  Mask mask(weights.rows, weights.columns);
  const int64_t pruned = PrunedCount(weights.columns, pattern.sparsity);
  ParallelRows(weights.rows, threads, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(weights.columns);
    std::vector<uint64_t> scratch;
    for (int64_t i = begin; i < end; ++i) {
      const std::span<const float> row = weights.row(i);
      for (int64_t j = 0; j < weights.columns; ++j) scores[j] = std::abs(row[j]) * factors[j];
      if (pattern.grouped()) {
        KeepLargestOfGroups(scores, pattern, mask.row(i));
      } else {
        KeepLargest(scores, pruned, mask.row(i), scratch);
      }
    }
  });
  return mask;
}

absl::StatusOr<Mask> WandaMask(const WeightsView& weights, std::span<const double> sum_squares,
                               const Pattern& pattern, int threads) {
  return MaskByRows(weights, WandaFactors(sum_squares), pattern, threads);
}

absl::StatusOr<Mask> MagnitudeMask(const WeightsView& weights, const Pattern& pattern,
                                   int threads) {
  if (pattern.grouped()) {
    return MaskByRows(weights, std::vector<float>(weights.columns, 1.0F), pattern, threads);
  }
  Mask mask(weights.rows, weights.columns);
  std::vector<uint64_t> scratch;
  const int64_t count = PrunedCount(static_cast<int64_t>(weights.values.size()), pattern.sparsity);
  KeepLargest(weights.values, count, mask.kept, scratch);
  return mask;
}

}  // namespace espalier::sparsity
