// DSnoT: refinement of a layer's mask without training.
//
// Shapes:      rows × columns as in mask.h; every row is refined alone and keeps its number of
//              weights (in N:M form: each group does).
// Units:       the error of a row is the expected difference of the layer's output, dense − sparse,
//              summed over the tokens of a sequence; so is the threshold.
// Determinism: total orders with the lower column first; independent of the number of threads.
// Threading:   `threads` threads inside; pure functions.
// Errors:      none: shapes are the caller's.
// Source:      Zhang et al., "Dynamic Sparse No Training: Training-Free Fine-tuning for Sparse
//              LLMs", ICLR 2024 (arXiv 2310.08915), with four corrections: only truly pruned
//              columns are regrown, and only such as bring the error closer to zero; columns that
//              expect to contribute nothing are never pruned in exchange, and columns whose input
//              does not vary are regrown last.
#pragma once

#include <cstdint>
#include <span>

#include "common/sparsity/pruning/activation_statistics.h"
#include "common/sparsity/pruning/mask.h"

namespace espalier::sparsity {

struct DsnotOptions {
  int max_cycles = 0;       // most exchanges in a row; 0: AutomaticCycles()
  double threshold = 0.1;   // |error| at which a row is left alone
  double power = 1;         // of the variance that the regrowing key is divided by
  bool sign_check = false;  // refuse an exchange that turns the error's sign
  bool pooled_variance = false;
  bool monotone =
      false;  // pass over exchanges that bring |error| no closer to zero; not the paper's
};

// Exchanges in a row of so many inputs that are as fine an adjustment as the authors' 50 in the
// rows of 4096 that they were chosen for: max(1, 50 · columns / 4096, rounded).
int AutomaticCycles(int64_t columns);

struct DsnotResult {
  int64_t exchanges = 0;
  int64_t rows_settled = 0;      // |error| ≤ threshold in the end
  double mean_error_before = 0;  // mean |error| over rows
  double mean_error_after = 0;
};

// Refines `mask`, which has the same shape. `initial_factors` (per column, to multiply |W| with)
// are those of the score that made the mask; they choose the exchange partner in N:M form.
DsnotResult RefineMask(const WeightsView& weights, const ColumnMoments& moments,
                       std::span<const float> initial_factors, const Pattern& pattern,
                       const DsnotOptions& given, int threads, Mask& mask);

}  // namespace espalier::sparsity
