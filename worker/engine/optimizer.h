// The update rules of OptimizerSpec, one pass over the stored values.
//
// Memory:      one float per stored value for SGD with momentum, two for Adam, none for plain SGD.
// Threading:   Update() calls on disjoint ranges may run at the same time, between two BeginStep().
// Determinism: elementwise; same bits on every processor and for every way of cutting the ranges.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

// Errors: InvalidArgument (OPTIMIZER_PARAMETER) naming the parameter that is out of range.
absl::Status ValidateOptimizer(const OptimizerSpec& spec);

// Slots that the rule keeps for each value: 0, 1 (momentum) or 2 (Adam's moments).
int OptimizerSlots(const OptimizerSpec& spec);

// One update of `size` values in step `step` ≥ 1. `first_slot` and `second_slot` have as many
// numbers, or are null where the rule does not have them.
void UpdateValues(const OptimizerSpec& spec, double learning_rate, int64_t step,
                  const float* gradient, int64_t size, float* values, float* first_slot,
                  float* second_slot);

class Optimizer {
 public:
  Optimizer(const OptimizerSpec& spec, int64_t size);

  // Forgets momentum and moments.
  void Reset();
  // Goes on from `state` (as state() lays it out), `steps` steps after the beginning.
  // Errors: InvalidArgument (SHAPE_MISMATCH) on a wrong count.
  absl::Status Resume(std::span<const float> state, int64_t steps);
  // Momentum or first moments of all values, then second moments if there are any.
  std::vector<float> state() const;
  // Starts a step; all its Update() calls use this learning rate.
  void BeginStep(double learning_rate);
  // Applies `gradient` to values[first + i], i < gradient.size(); `values` is the whole model.
  void Update(std::span<const float> gradient, int64_t first, float* values);

 private:
  OptimizerSpec spec_;
  AlignedBuffer first_moment_;
  AlignedBuffer second_moment_;
  int64_t step_ = 0;
  float learning_rate_ = 0;
};

}  // namespace espalier::worker::engine
