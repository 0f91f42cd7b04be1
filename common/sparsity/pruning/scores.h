// Initial masks by magnitude and by Wanda's score.
//
// Determinism: see mask.h. Threading: `threads` threads inside; pure functions.
// Source:      magnitude: one threshold per layer. Wanda: Sun, Liu, Bair, Kolter,
//              "A Simple and Effective Pruning Approach for Large Language Models", ICLR 2024: the
//              ⌊columns · sparsity⌋ smallest |W_ij| · √S2_j of every row.
#pragma once

#include <span>

#include "absl/status/statusor.h"
#include "common/sparsity/pruning/mask.h"

namespace espalier::sparsity {

// Unstructured: the smallest magnitudes of the whole layer, by count. N:M: of each group.
absl::StatusOr<Mask> MagnitudeMask(const WeightsView& weights, const Pattern& pattern, int threads);

// `sum_squares` is S2 of each column.
absl::StatusOr<Mask> WandaMask(const WeightsView& weights, std::span<const double> sum_squares,
                               const Pattern& pattern, int threads);

// Wanda's variant by cumulative score: each row loses its smallest scores as long as their sum is
// at most α times the row's, with one α for the layer, so that rows lose different numbers. As in
// the authors' code α is found by bisection from 0.4 in [0, 0.8], until the layer's share is within
// 0.001 of `sparsity` or the interval is shorter than 0.001.
Mask WandaCumulativeMask(const WeightsView& weights, std::span<const double> sum_squares,
                         double sparsity, int threads);

// The mask that keeps the largest |W_ij| · factor_j of every row, or of its groups.
absl::StatusOr<Mask> MaskByRows(const WeightsView& weights, std::span<const float> factors,
                                const Pattern& pattern, int threads);

// √S2 of each column.
std::vector<float> WandaFactors(std::span<const double> sum_squares);

}  // namespace espalier::sparsity
