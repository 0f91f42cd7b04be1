// RowBags: for each example some rows of a table, with a weight for each. Their weighted sums are
// an embedding, the mean of several, or the product of a sparse input with the table.
//
// Shapes:      matrices are feature-major [columns of the table][stride], one column per example.
// Cost:        only rows that examples name are read, and only they have gradients.
// Threading:   forward passes split the examples over `threads` OpenMP threads; the bits do not
//              depend on how many.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "worker/engine/rows/row_tensor.h"
#include "worker/engine/weight_matrix.h"

namespace espalier::worker::engine {

class RowBags {
 public:
  RowBags() = default;
  // One row with weight 1 for each example.
  explicit RowBags(std::span<const int32_t> rows);

  // The next example, whose rows all have the same weight.
  void Add(std::span<const int32_t> rows, float weight);
  // The next example. Rows with weight 0 are left out.
  void Add(std::span<const int32_t> rows, std::span<const float> weights);
  int64_t size() const { return static_cast<int64_t>(begin_.size()) - 1; }

  // out = Σ weight · row for the examples [first, first + extent.size), one per column; zero in the
  // columns up to extent.width.
  void Forward(const RowTensor& table, int64_t first, Extent extent, int64_t stride, float* out,
               int threads) const;
  // The same entries by row: of each row that is named the examples, in ascending order.
  struct Uses {
    std::vector<int32_t> rows;         // ascending
    std::vector<int64_t> begin = {0};  // of each row's entries
    std::vector<int32_t> examples;
    std::vector<float> weights;
  };
  Uses ByRow() const;

 private:
  std::vector<int64_t> begin_ = {0};  // of each example's entries
  std::vector<int32_t> rows_;
  std::vector<float> weights_;
};

// Calls `sink` with the gradient of each row that an example names, over all `cols` columns, in
// ascending order of rows. `of_examples` [examples][cols] is that of the sums.
void RowGradients(const RowBags::Uses& uses, const float* of_examples, int64_t cols,
                  const std::function<void(int32_t row, const float* gradient)>& sink);

// to [size][rows] from the first `size` columns of [rows][stride].
void Transpose(const float* from, int64_t rows, int64_t stride, int64_t size, float* to);

}  // namespace espalier::worker::engine
