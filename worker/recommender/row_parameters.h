// Gradients and optimizer slots of tensors as rows.
//
// Memory:      RowOptimizer has one byte per row, and slots for groups of kRowsPerGroup rows from
//              the first gradient of one of them on (with weight decay from the first step on).
// Threading:   different groups may be updated at the same time.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "worker/engine/rows/row_tensor.h"
#include "worker/engine/spec.h"

namespace espalier::worker::recommender {

// Rows whose optimizer slots are allocated together.
inline constexpr int64_t kRowsPerGroup = 64;

using engine::RowTensor;

// Receives the gradient of one step, a row at a time. Rows of a tensor come at most once in a step.
class RowSink {
 public:
  virtual ~RowSink() = default;
  // Gradients of the stored values of rows [first, first + count), in their order. Rows that are
  // all zero are not touched. May be called for different groups of rows at the same time: `first`
  // is a multiple of kRowsPerGroup if count > 1, and calls of one row each come from one thread.
  virtual void StoredOf(size_t tensor, int64_t first, int64_t count, const float* gradient) = 0;
  // A hint that StoredOf() is going to be called for this row.
  virtual void Expect(size_t, int64_t) const {}
  // Whether gradients of this tensor are wanted at all positions too, through AllOf().
  virtual bool wants_all(size_t) const { return false; }
  // Gradients of row `row` at all cols() positions. From one thread at a time.
  virtual void AllOf(size_t, int64_t, const float*) {}
};

// The optimizer of one tensor. A step is any number of Update() calls and one EndStep(). It is the
// step of a dense optimizer on every stored value: a row that no Update() named has gradient 0, its
// momentum or moments decay and move it, and weight decay acts on it. With `lazy_rows` of the
// OptimizerSpec, rows whose gradient is all zero keep value and slots instead.
class RowOptimizer {
 public:
  RowOptimizer(const engine::OptimizerSpec& spec, const RowTensor& tensor);

  // Applies gradients as RowSink::StoredOf() gets them, in optimizer step `step` ≥ 1.
  void Update(int64_t first, int64_t count, const float* gradient, double learning_rate,
              int64_t step);
  // Fetches what an update of the row begins with into the cache.
  void Prefetch(int64_t row) const;
  // The rest of step `step`: rows that had no Update(). Uses `threads` threads; the bits do not
  // depend on how many. Costs a pass over the values of groups that have slots.
  void EndStep(double learning_rate, int64_t step, int threads);
  void Reset();
  // Whether steps leave the tensor as it is.
  void SetFrozen(bool frozen) { frozen_ = frozen; }
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
  bool frozen_ = false;
  std::vector<uint8_t> updated_;                  // rows that this step's Update() calls have named
  std::vector<std::unique_ptr<float[]>> groups_;  // of each group its slots, one after the other
};

}  // namespace espalier::worker::recommender
