// Tensors as rows: where the values of a row are stored, and their gradients and optimizer slots.
//
// Memory:      a RowTensor borrows values and structure. RowOptimizer has one byte per row, and
// slots
//              for groups of kRowsPerGroup rows from the first gradient of one of them on (with
//              weight decay from the first step on).
// Threading:   different rows may be read at the same time; updates of different groups too.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/tensor/topology.h"
#include "worker/engine/spec.h"

namespace espalier::worker::recommender {

// Rows whose optimizer slots are allocated together.
inline constexpr int64_t kRowsPerGroup = 64;

// Rows of a tensor with the columns that are stored.
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

// Receives the gradient of one step, a row at a time. Rows of a tensor come at most once in a step.
class GradientSink {
 public:
  virtual ~GradientSink() = default;
  // Whether gradients of this tensor are wanted at all positions, through AllOf(), and not only at
  // stored ones, through StoredOf().
  virtual bool wants_all(size_t tensor) const = 0;
  // Gradients of the stored values of rows [first, first + count), in their order. Rows that are
  // all zero are not touched. May be called for different groups of rows at the same time: `first`
  // is a multiple of kRowsPerGroup if count > 1, and calls of one row each come from one thread.
  virtual void StoredOf(size_t tensor, int64_t first, int64_t count, const float* gradient) = 0;
  // Gradients of row `row` at all cols() positions. From one thread at a time.
  virtual void AllOf(size_t tensor, int64_t row, const float* gradient) = 0;
};

// The optimizer of one tensor. A step is any number of Update() calls and one EndStep(). It is the
// step of a dense optimizer on every stored value: a row that no Update() named has gradient 0, its
// momentum or moments decay and move it, and weight decay acts on it. With `lazy_rows` of the
// OptimizerSpec, rows whose gradient is all zero keep value and slots instead.
class RowOptimizer {
 public:
  RowOptimizer(const engine::OptimizerSpec& spec, const RowTensor& tensor);

  // Applies gradients as GradientSink::StoredOf() gets them, in optimizer step `step` ≥ 1.
  void Update(int64_t first, int64_t count, const float* gradient, double learning_rate,
              int64_t step);
  // The rest of step `step`: rows that had no Update(). Uses `threads` threads; the bits do not
  // depend on how many. Costs a pass over the values of groups that have slots.
  void EndStep(double learning_rate, int64_t step, int threads);
  void Reset();
  // Slots of all stored values: `state` holds `slots()` sets of `distance` floats, this tensor's
  // beginning at `offset`.
  void Load(std::span<const float> state, int64_t offset, int64_t distance);
  void Store(std::span<float> state, int64_t offset, int64_t distance) const;
  int slots() const { return slots_; }
  int64_t RowsWithSlots() const;

 private:
  int64_t GroupBegin(int64_t group) const;
  int64_t GroupSize(int64_t group) const { return GroupBegin(group + 1) - GroupBegin(group); }
  float* Slots(int64_t group);
  void UpdateRange(int64_t group, int64_t first, int64_t size, const float* gradient,
                   double learning_rate, int64_t step);
  void UpdateTouched(int64_t first, int64_t count, const float* gradient, double learning_rate,
                     int64_t step);
  void UpdateAtRest(int64_t group, int64_t first, int64_t size, double learning_rate, int64_t step);
  void EndGroup(int64_t group, double learning_rate, int64_t step);
  // Whether a gradient of 0 changes nothing in the group.
  bool RestsWithoutGradient(int64_t group) const;

  engine::OptimizerSpec spec_;
  RowTensor tensor_;
  int slots_;
  std::vector<uint8_t> updated_;                  // rows that this step's Update() calls have named
  std::vector<std::unique_ptr<float[]>> groups_;  // of each group its slots, one after the other
};

}  // namespace espalier::worker::recommender
