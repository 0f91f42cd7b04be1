// SparseGPT: one-shot pruning that moves what is lost into the weights that stay.
//
// Shapes:      weights rows × columns; Gram matrix columns × columns, row by row.
// Memory:      three columns × columns matrices of doubles while the factor is computed.
// Determinism: independent of `threads`: rows are updated alone, and the choice within a block of
//              columns is by (score, index).
// Errors:      InvalidArgument PATTERN_WIDTH; FailedPrecondition HESSIAN_SINGULAR when the damped
//              matrix has no Cholesky factor (NaN activations, or damping 0).
// Source:      Frantar, Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in
//              One-Shot", ICML 2023 (arXiv 2301.00774).
#pragma once

#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/sparsity/pruning/mask.h"

namespace espalier::sparsity {

// The upper Cholesky factor U of the inverse of H = 2·Gram + damping · mean(diag) · I, for which
// UᵀU = H⁻¹.
struct InverseFactor {
  std::vector<float> upper;   // columns × columns, row by row; zeros below the diagonal
  std::vector<uint8_t> dead;  // columns that were never active
};
absl::StatusOr<InverseFactor> FactorInverse(std::span<const double> gram, int64_t columns,
                                            double damping);

// 1 / U_jj: |W_ij| times this orders as W_ij² / U_jj², the score without updates.
std::vector<float> SparseGptFactors(const InverseFactor& factor);

// Prunes `values` (rows × columns) in place; the result's zeros are the mask's, and kept weights
// have changed. `block` columns are chosen together.
absl::StatusOr<Mask> SparseGptPrune(std::span<float> values, int64_t rows,
                                    const InverseFactor& factor, const Pattern& pattern,
                                    int64_t block, int threads);

}  // namespace espalier::sparsity
