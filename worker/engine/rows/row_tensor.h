// RowTensor: a tensor as rows, dense or sparse: where the values of each row are stored.
//
// Ownership:   borrows values and structure.
// Threading:   different rows may be read and changed at the same time.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/tensor/model.h"
#include "worker/engine/backend.h"
#include "worker/engine/kernels/kernels.h"

namespace espalier::worker::engine {

class RowTensor {
 public:
  // `topology` is null for a dense tensor; `values` has its stored values. Both borrowed.
  RowTensor(int64_t rows, int64_t cols, const tensor::Topology* topology, float* values)
      : rows_(rows), cols_(cols), topology_(topology), values_(values) {}

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  bool is_sparse() const { return topology_ != nullptr; }
  const tensor::Topology& topology() const { return *topology_; }
  // The stored values of row r are [begin(r), begin(r + 1)) of values().
  int64_t begin(int64_t row) const {
    return topology_ == nullptr ? row * cols_ : topology_->row_offsets()[row];
  }
  int64_t stored() const { return begin(rows_); }
  float* values() const { return values_; }
  std::span<const float> Row(int64_t row) const {
    return {values_ + begin(row), static_cast<size_t>(begin(row + 1) - begin(row))};
  }
  // Columns of a row's stored values; sparse tensors only.
  std::span<const int32_t> ColumnsOf(int64_t row) const {
    return topology_->columns().subspan(begin(row), begin(row + 1) - begin(row));
  }
  // Σ row ∘ x, over all columns.
  float Product(int64_t row, const float* x) const;
  // Writes all columns of a row, zeros where nothing is stored.
  void Expand(int64_t row, float* out) const;
  // Writes those of `dense` (cols() numbers) at which the row stores values, in order.
  void Gather(int64_t row, const float* dense, float* out) const;

 private:
  int64_t rows_;
  int64_t cols_;
  const tensor::Topology* topology_;
  float* values_;
};

// All tensors of a model whose values are `values`.
std::vector<RowTensor> RowTensorsOf(const tensor::ModelTopology& topology, float* values);

// y [rows.end − rows.begin][stride] = the rows given · x [columns of w][stride], in the first
// `width` columns, a multiple of kLanes.
void MultiplyRows(Backend& backend, const RowTensor& w, RowRange rows, const float* x,
                  int64_t stride, int64_t width, float* y);

}  // namespace espalier::worker::engine
