// Which weights of a layer are kept, and the choice of them by score.
//
// Shapes:      rows × columns, row by row; a convolution is outputs × (inputs · kernel²).
// Determinism: selection by count under the total order (score, index): of equal scores the lower
//              index is pruned first. Independent of the number of threads.
// Errors:      InvalidArgument PATTERN_WIDTH when N:M groups do not divide the columns.
// Source:      the papers of scores.h; N:M: Mishra et al., arXiv 2104.08378.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"

namespace espalier::sparsity {

// A layer's weights; borrowed.
struct WeightsView {
  std::span<const float> values;
  int64_t rows = 0;
  int64_t columns = 0;
  std::span<const float> row(int64_t i) const { return values.subspan(i * columns, columns); }
};

// How much is pruned: a share, or all but `kept` of every `group` consecutive columns.
struct Pattern {
  double sparsity = 0;
  int kept = 0;
  int group = 0;  // 0: unstructured
  bool grouped() const { return group > 0; }
};

struct Mask {
  Mask() = default;
  Mask(int64_t rows, int64_t columns) : columns(columns), kept(rows * columns, 1) {}
  std::span<uint8_t> row(int64_t i) { return std::span(kept).subspan(i * columns, columns); }
  std::span<const uint8_t> row(int64_t i) const {
    return std::span(kept).subspan(i * columns, columns);
  }
  int64_t KeptCount() const;

  int64_t columns = 0;
  std::vector<uint8_t> kept;  // 1 = kept
};

// Errors: see above.
absl::Status CheckPattern(const Pattern& pattern, int64_t columns);

// Marks the `count` smallest of `scores` (≥ 0) as pruned and the others as kept. `scratch` is
// overwritten.
void KeepLargest(std::span<const float> scores, int64_t count, std::span<uint8_t> kept,
                 std::vector<uint64_t>& scratch);

// Of each group of consecutive scores keeps the `pattern.kept` largest.
void KeepLargestOfGroups(std::span<const float> scores, const Pattern& pattern,
                         std::span<uint8_t> kept);

// Weights that a share of `count` means: ⌊count · sparsity⌋, robust against the last bit.
int64_t PrunedCount(int64_t count, double sparsity);

// Sets pruned weights to zero.
void Apply(const Mask& mask, std::span<float> values);

// tr(Δ G Δᵀ) for Δ = a − b: the squared error of the layer's output over the inputs that the
// columns × columns Gram matrix `gram` stands for. With b empty: of a itself.
double OutputError(const WeightsView& a, std::span<const float> b, std::span<const double> gram,
                   int threads);

}  // namespace espalier::sparsity
