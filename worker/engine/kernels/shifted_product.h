// ShiftedProduct: Y[r] at each position of a grid = Σ_k values[k] · X[channel of k] at that
// position shifted by k's own distance. Sparse convolution is one such product, and so is its input
// gradient for stride 1; with stride 2 the latter is one for each of four phases of the image.
//
// How:         for kLanes examples and a band of output rows at a time, the input that the band
//              needs is copied into a panel with its border of zeros, small enough for the
//              second-level cache. In the panel every nonzero is one constant offset, so that
//              borders cost nothing in the inner loop (shift_kernels.h).
// Memory:      one int32 per nonzero and one per row; panels are lent, one per thread.
// Threading:   one caller at a time per plan and PanelPool.
// Determinism: the same bits for every thread count.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/shift_kernels.h"

namespace espalier::worker::engine {

// One growing buffer for each thread, shared by all products of a network.
class PanelPool {
 public:
  explicit PanelPool(int threads) : panels_(threads) {}
  int threads() const { return static_cast<int>(panels_.size()); }
  // At least `size` floats for thread `part`; contents are unspecified.
  float* Get(int part, int64_t size) {
    if (panels_[part].size() < size) panels_[part] = AlignedBuffer(size);
    return panels_[part].data();
  }

 private:
  std::vector<AlignedBuffer> panels_;
};

struct ShiftGeometry {
  int64_t in_channels = 0;
  int64_t in_height = 0;
  int64_t in_width = 0;
  // Positions (i, j) that are computed, i < rows, j < cols. They read around input position
  // (i·in_step, j·in_step) and are stored at (i·out_step + first_row, j·out_step + first_col) of a
  // map of out_height × out_width.
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t in_step = 1;
  int64_t out_step = 1;
  int64_t out_height = 0;
  int64_t out_width = 0;
  int64_t first_row = 0;
  int64_t first_col = 0;
  // Range of the shifts, the same for rows and columns in convolutions of square windows.
  int64_t row_low = 0;
  int64_t row_high = 0;
  int64_t col_low = 0;
  int64_t col_high = 0;
};

class ShiftedProduct {
 public:
  ShiftedProduct(const ShiftGeometry& geometry, int64_t stride, std::shared_ptr<PanelPool> pool,
                 Isa isa);

  // Whether offsets fit 32 bits.
  bool fits() const;

  // Nonzeros are added row by row.
  void AddNonzero(int64_t channel, int64_t row_shift, int64_t col_shift);
  void EndRow() { begin_.push_back(static_cast<int32_t>(offsets_.size())); }
  int64_t nnz() const { return static_cast<int64_t>(offsets_.size()); }

  // X [in_channels][in_height][in_width][stride], Y [rows added][out_height][out_width][stride],
  // for the first `width` examples, a multiple of kLanes.
  void Multiply(const float* values, const float* x, int64_t width, float* y) const;
  // gradient[k] = Σ dY[row of k] · X shifted, over positions and examples.
  void Gradient(const float* dy, const float* x, int64_t width, float* gradient) const;

 private:
  // A band of output rows for the examples [block, block + 1)·kLanes.
  struct Unit {
    int64_t block = 0;
    int64_t first_row = 0;
    int64_t rows = 0;
  };
  int64_t UnitCount(int64_t width) const;
  Unit UnitAt(int64_t index) const;
  int64_t panel_floats() const { return g_.in_channels * panel_rows_ * panel_cols_ * kLanes; }
  void Pack(const Unit& unit, const float* x, float* panel) const;
  // Calls body(tile, skip, offset in the panel, offset in a map of the output) for tiles that cover
  // the unit; `skip` is what earlier tiles of the unit have covered of this one.
  template <typename Body>
  void ForEachTile(const Unit& unit, const Body& body) const;
  ShiftRows Rows() const;

  ShiftGeometry g_;
  int64_t stride_;
  std::shared_ptr<PanelPool> pool_;
  const ShiftKernels& kernels_;
  ShiftTile tile_;
  int64_t bands_ = 1;  // near-equal, none with fewer rows than a tile
  int64_t panel_rows_ = 0;
  int64_t panel_cols_ = 0;
  std::vector<int32_t> begin_ = {0};
  std::vector<int32_t> offsets_;
};

}  // namespace espalier::worker::engine
