// Dropout from counter-based random numbers: which outputs are dropped is a pure function
// of (key, row, column), whatever the thread count or the order of evaluation.
//
// Memory: one bit per output. Probabilities are rounded to multiples of 2^-16.
// Threading: Draw() and Apply() touch only their rows.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/kernels/kernels.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

class DropoutMask {
 public:
  // No dropout: Draw() and Apply() do nothing, scale() is 1.
  DropoutMask() = default;
  // For up to `rows` × `stride` outputs; probability in [0, 1).
  DropoutMask(double probability, DropoutScaling scaling, int64_t rows, int64_t stride);

  bool enabled() const { return threshold_ > 0; }
  bool active() const { return active_; }
  // What kept outputs are multiplied by, see DropoutScaling.
  float scale() const { return active_ ? training_scale_ : evaluation_scale_; }
  // Whether Apply() does anything at present.
  bool changes_outputs() const { return active_ || evaluation_scale_ != 1.0F; }
  // Whether the mask takes part in the next passes: it does while training only.
  void set_active(bool active) { active_ = active && enabled(); }

  // Chooses what to drop in `rows`: columns [128g, 128g + 128) of row r come from the Philox blocks
  // with counters {r low, r high, g, lane}, lane < 16; 16 bits each.
  void Draw(uint64_t key, RowRange rows);
  // y = mask ∘ y · scale, while not active y · scale, on the first `width` columns of `rows`, in
  // place.
  void Apply(float* y, int64_t stride, int64_t width, RowRange rows) const;
  bool kept(int64_t row, int64_t column) const {
    return ((bits_[row * blocks_ + column / kLanes] >> (column % kLanes)) & 1) != 0;
  }

 private:
  uint32_t threshold_ = 0;  // dropped when 16 random bits are below it
  float training_scale_ = 1;
  float evaluation_scale_ = 1;
  bool active_ = false;
  int64_t blocks_ = 0;          // groups of kLanes columns per row
  std::vector<uint16_t> bits_;  // set = kept
};

}  // namespace espalier::worker::engine
