// ActivationStatistics: what pruning needs to know of a linear layer's inputs, as exact sums.
//
// Shapes:      one entry per input column of the layer; the Gram matrix XᵀX is kept as its upper
//              triangle, row by row.
// Units:       a sequence is a stretch of text (or one example of another network), a token one row
//              of its input (for a convolution: one output position).
// Determinism: what a sequence contributes is computed from it alone and added as an integer, so
//              that the sums are the same bits however sequences are divided between workers and
//              in whichever order they arrive.
// Memory:      48 bytes per column; with Gram 8 bytes per pair of columns more.
// Threading:   not thread-safe.
// Errors:      InvalidArgument NON_FINITE, VALUE_OUT_OF_RANGE, SHAPE_MISMATCH; the object is then
//              unusable if an addition had begun, which its owner discards.
// Source:      Zhang et al. 2024 (DSnoT), section 3; Sun et al. 2024 (Wanda).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/sparsity/pruning/exact_sum.h"

namespace espalier::sparsity {

// The statistics as the methods use them; index = input column.
struct ColumnMoments {
  std::vector<double> sum;              // S1: Σ over tokens, mean over sequences
  std::vector<double> sum_squares;      // S2: likewise of squares
  std::vector<double> variance;         // mean of each sequence's population variance, by tokens
  std::vector<double> pooled_variance;  // population variance over all tokens
  std::vector<double> mean;             // over all tokens
};

class ActivationStatistics {
 public:
  ActivationStatistics(int64_t columns, bool with_gram);

  // Feature-major: row j holds input column j of all tokens, rows are `stride` ≥ tokens floats
  // apart. `inputs` points to columns × stride floats.
  absl::Status AddSequence(const float* inputs, int64_t stride, int64_t tokens);
  // Adds what another worker measured on other sequences of the same layer.
  absl::Status Merge(const ActivationStatistics& other);

  ColumnMoments Moments() const;
  // Σ over sequences of XᵀX divided by their number, columns × columns. Only with_gram.
  std::vector<double> Gram() const;

  int64_t columns() const { return columns_; }
  bool with_gram() const { return !gram_.empty(); }
  int64_t sequences() const { return sequences_; }
  int64_t tokens() const { return tokens_; }

  // Little-endian: sequences and tokens (int64), then the sums. Its length is a function of columns
  // and with_gram alone.
  static uint64_t EncodedBytes(int64_t columns, bool with_gram);
  void AppendTo(std::string& bytes) const;
  // Errors: InvalidArgument STATISTICS_INVALID for bytes that AppendTo() did not make.
  static absl::StatusOr<ActivationStatistics> Decode(std::string_view bytes, int64_t columns,
                                                     bool with_gram);

 private:
  absl::Status AddGram(const float* inputs, int64_t stride, int64_t tokens);

  int64_t columns_;
  int64_t sequences_ = 0;
  int64_t tokens_ = 0;
  std::vector<ExactSum> sum_;
  std::vector<ExactSum> sum_squares_;
  std::vector<ExactSum> deviations_;  // Σ over sequences of tokens · variance
  std::vector<ExactSum> gram_;
};

}  // namespace espalier::sparsity
