#include "common/sparsity/pruning/mask.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/status.h"
#include "common/sparsity/pruning/parallel_rows.h"
#include "common/sparsity/selection.h"

namespace espalier::sparsity {

int64_t Mask::KeptCount() const { return std::accumulate(kept.begin(), kept.end(), int64_t{0}); }

absl::Status CheckPattern(const Pattern& pattern, int64_t columns) {
  if (!pattern.grouped() || columns % pattern.group == 0) return absl::OkStatus();
  return base::InvalidArgument(
      "PATTERN_WIDTH",
      fmt::format("expected a layer whose {} inputs divide into groups of {} for the pattern "
                  "{}:{}, found a remainder of {}; use another pattern or skip the layer",
                  columns, pattern.group, pattern.kept, pattern.group, columns % pattern.group));
}

int64_t PrunedCount(int64_t count, double sparsity) {
  return static_cast<int64_t>(std::floor(static_cast<double>(count) * sparsity + 1e-9));
}

void KeepLargest(std::span<const float> scores, int64_t count, std::span<uint8_t> kept,
                 std::vector<uint64_t>& scratch) {
  scratch.resize(scores.size());
  for (size_t j = 0; j < scores.size(); ++j) {
    scratch[j] = SmallestFirst(scores[j], static_cast<uint32_t>(j));
  }
  const uint64_t bound = BoundOfSmallest(scratch, count);
  for (size_t j = 0; j < scores.size(); ++j) {
    kept[j] = SmallestFirst(scores[j], static_cast<uint32_t>(j)) < bound ? 0 : 1;
  }
}

void KeepLargestOfGroups(std::span<const float> scores, const Pattern& pattern,
                         std::span<uint8_t> kept) {
  const auto group = static_cast<size_t>(pattern.group);
  std::vector<uint64_t> keys(group);
  for (size_t begin = 0; begin + group <= scores.size(); begin += group) {
    for (size_t j = 0; j < group; ++j) {
      keys[j] = SmallestFirst(scores[begin + j], static_cast<uint32_t>(j));
    }
    std::sort(keys.begin(), keys.end());
    for (size_t k = 0; k < group; ++k) {
      kept[begin + (keys[k] & 0xFFFFFFFFu)] = k < group - pattern.kept ? 0 : 1;
    }
  }
}

void Apply(const Mask& mask, std::span<float> values) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (mask.kept[i] == 0) values[i] = 0;
  }
}

double OutputError(const WeightsView& a, std::span<const float> b, std::span<const double> gram,
                   int threads) {
  const int64_t columns = a.columns;
  std::vector<double> errors(a.rows);
  ParallelRows(a.rows, threads, [&](int64_t begin, int64_t end) {
    std::vector<double> product(columns);
    for (int64_t i = begin; i < end; ++i) {
      const std::span<const float> row = a.row(i);
      const auto difference = [&](int64_t j) {
        return b.empty() ? double{row[j]} : double{row[j]} - double{b[i * columns + j]};
      };
      std::fill(product.begin(), product.end(), 0.0);
      for (int64_t k = 0; k < columns; ++k) {
        const double factor = difference(k);
        if (factor == 0) continue;
        const double* gram_row = gram.data() + k * columns;
        for (int64_t j = 0; j < columns; ++j) product[j] += factor * gram_row[j];
      }
      for (int64_t j = 0; j < columns; ++j) errors[i] += product[j] * difference(j);
    }
  });
  return std::max(0.0, std::accumulate(errors.begin(), errors.end(), 0.0));
}

}  // namespace espalier::sparsity
