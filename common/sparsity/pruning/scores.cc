#include "common/sparsity/pruning/scores.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/base/status.h"
#include "common/sparsity/pruning/parallel_rows.h"

namespace espalier::sparsity {
namespace {

// |W_ij| · factor_j of one row.
void ScoreRow(std::span<const float> row, std::span<const float> factors,
              std::vector<float>& scores) {
  for (size_t j = 0; j < row.size(); ++j) scores[j] = std::abs(row[j]) * factors[j];
}

// Of each row, the running sums of its scores from the smallest on.
std::vector<double> CumulativeScores(const WeightsView& weights, std::span<const float> factors,
                                     int threads) {
  std::vector<double> sums(weights.values.size());
  ParallelRows(weights.rows, threads, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(weights.columns);
    for (int64_t i = begin; i < end; ++i) {
      ScoreRow(weights.row(i), factors, scores);
      std::ranges::sort(scores);
      double sum = 0;
      for (int64_t j = 0; j < weights.columns; ++j) {
        sums[i * weights.columns + j] = sum += static_cast<double>(scores[j]);
      }
    }
  });
  return sums;
}

// How many of each row go for `alpha`, and of all.
int64_t CountsFor(double alpha, const std::vector<double>& sums, int64_t columns,
                  std::vector<int64_t>& counts) {
  int64_t total = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    const auto first = sums.begin() + static_cast<int64_t>(i) * columns;
    counts[i] = std::upper_bound(first, first + columns, alpha * first[columns - 1]) - first;
    total += counts[i];
  }
  return total;
}

}  // namespace

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
      ScoreRow(weights.row(i), factors, scores);
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

Mask WandaCumulativeMask(const WeightsView& weights, std::span<const double> sum_squares,
                         double sparsity, int threads) {
  constexpr double kTolerance = 0.001;
  const std::vector<float> factors = WandaFactors(sum_squares);
  const std::vector<double> sums = CumulativeScores(weights, factors, threads);
  std::vector<int64_t> counts(weights.rows);
  const auto share_for = [&](double alpha) {
    return static_cast<double>(CountsFor(alpha, sums, weights.columns, counts)) /
           static_cast<double>(sums.size());
  };
  double low = 0;
  double high = 0.8;
  double alpha = 0.4;
  double share = share_for(alpha);
  while (std::abs(share - sparsity) > kTolerance && high - low >= kTolerance) {
    (share > sparsity ? high : low) = alpha;
    alpha = (low + high) / 2;
    share = share_for(alpha);
  }
  Mask mask(weights.rows, weights.columns);
  ParallelRows(weights.rows, threads, [&](int64_t begin, int64_t end) {
    std::vector<float> scores(weights.columns);
    std::vector<uint64_t> scratch;
    for (int64_t i = begin; i < end; ++i) {
      ScoreRow(weights.row(i), factors, scores);
      KeepLargest(scores, counts[i], mask.row(i), scratch);
    }
  });
  return mask;
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
