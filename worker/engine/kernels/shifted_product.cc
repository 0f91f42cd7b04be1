#include "worker/engine/kernels/shifted_product.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

// Share of a 1 MiB second-level cache that a panel may take. A constant: what a network computes
// must not depend on where it runs.
constexpr int64_t kPanelBytes = 600 << 10;
constexpr int64_t kLaneBytes = kLanes * static_cast<int64_t>(sizeof(float));

// Columns ahead of the copy. They lie a batch apart, which the processor does not foresee.
constexpr int64_t kPrefetch = 24;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

ShiftTile ChooseTile(std::span<const ShiftTile> tiles, int64_t rows, int64_t cols) {
  const auto fits = [&](ShiftTile tile) { return tile.rows <= rows && tile.cols <= cols; };
  return *std::ranges::find_if(tiles, fits);
}

}  // namespace

ShiftedProduct::ShiftedProduct(const ShiftGeometry& geometry, int64_t stride,
                               std::shared_ptr<PanelPool> pool, Isa isa)
    : g_(geometry),
      stride_(stride),
      pool_(std::move(pool)),
      kernels_(ShiftKernelsFor(isa)),
      tile_(ChooseTile(kernels_.tiles, std::max<int64_t>(g_.rows, 1),
                       std::max<int64_t>(g_.cols, 1))) {
  panel_cols_ = (g_.cols - 1) * g_.in_step + g_.col_high - g_.col_low + 1;
  const auto rows_for = [&](int64_t band) {
    return (band - 1) * g_.in_step + g_.row_high - g_.row_low + 1;
  };
  const auto panel_bytes = [&] {
    panel_rows_ = rows_for(CeilDivide(g_.rows, bands_));
    return panel_floats() * static_cast<int64_t>(sizeof(float));
  };
  while (panel_bytes() > kPanelBytes && bands_ < g_.rows / tile_.rows) ++bands_;
}

bool ShiftedProduct::fits() const { return panel_floats() <= std::numeric_limits<int32_t>::max(); }

void ShiftedProduct::AddNonzero(int64_t channel, int64_t row_shift, int64_t col_shift) {
  const int64_t row = channel * panel_rows_ + row_shift - g_.row_low;
  offsets_.push_back(static_cast<int32_t>((row * panel_cols_ + col_shift - g_.col_low) * kLanes));
}

int64_t ShiftedProduct::UnitCount(int64_t width) const {
  return g_.rows <= 0 || g_.cols <= 0 ? 0 : CeilDivide(width, kLanes) * bands_;
}

ShiftedProduct::Unit ShiftedProduct::UnitAt(int64_t index) const {
  const int64_t band = index % bands_;
  const int64_t first = g_.rows * band / bands_;
  return {
      .block = index / bands_, .first_row = first, .rows = g_.rows * (band + 1) / bands_ - first};
}

void ShiftedProduct::Pack(const Unit& unit, const float* x, float* panel) const {
  const int64_t top = unit.first_row * g_.in_step + g_.row_low;
  const int64_t left_zeros = std::clamp<int64_t>(-g_.col_low, 0, panel_cols_);
  const int64_t copied =
      std::clamp<int64_t>(g_.in_width - g_.col_low, left_zeros, panel_cols_) - left_zeros;
  const int64_t right_zeros = panel_cols_ - left_zeros - copied;
  for (int64_t channel = 0; channel < g_.in_channels; ++channel) {
    for (int64_t row = 0; row < panel_rows_; ++row) {
      const int64_t in_row = top + row;
      if (in_row < 0 || in_row >= g_.in_height) {
        std::memset(panel, 0, panel_cols_ * kLaneBytes);
        panel += panel_cols_ * kLanes;
        continue;
      }
      std::memset(panel, 0, left_zeros * kLaneBytes);
      panel += left_zeros * kLanes;
      const float* from =
          x +
          ((channel * g_.in_height + in_row) * g_.in_width + std::max<int64_t>(g_.col_low, 0)) *
              stride_ +
          unit.block * kLanes;
      for (int64_t col = 0; col < copied; ++col, panel += kLanes, from += stride_) {
        __builtin_prefetch(from + kPrefetch * stride_);
        std::memcpy(panel, from, kLaneBytes);
      }
      std::memset(panel, 0, right_zeros * kLaneBytes);
      panel += right_zeros * kLanes;
    }
  }
}

template <typename Body>
void ShiftedProduct::ForEachTile(const Unit& unit, const Body& body) const {
  for (int64_t i = 0; i < unit.rows; i += tile_.rows) {
    // The last tile of a row or column is moved back to end with the unit.
    const int64_t row = std::min(i, unit.rows - tile_.rows);
    for (int64_t j = 0; j < g_.cols; j += tile_.cols) {
      const int64_t col = std::min(j, g_.cols - tile_.cols);
      const int64_t out_row = (unit.first_row + row) * g_.out_step + g_.first_row;
      const int64_t out_col = col * g_.out_step + g_.first_col;
      body(ShiftTile{i - row, j - col}, (row * panel_cols_ + col) * g_.in_step * kLanes,
           (out_row * g_.out_width + out_col) * stride_ + unit.block * kLanes);
    }
  }
}

ShiftRows ShiftedProduct::Rows() const {
  return {.begin = begin_.data(),
          .offsets = offsets_.data(),
          .in_row = g_.in_step * panel_cols_ * kLanes,
          .in_step = g_.in_step,
          .out_channel = g_.out_height * g_.out_width * stride_,
          .out_row = g_.out_step * g_.out_width * stride_,
          .out_col = g_.out_step * stride_};
}

void ShiftedProduct::Multiply(const float* values, const float* x, int64_t width, float* y) const {
  const int64_t units = UnitCount(width);
  const RowRange rows = {0, static_cast<int64_t>(begin_.size()) - 1};
  ParallelParts(pool_->threads(), [&](int part) {
    float* panel = pool_->Get(part, panel_floats());
    const int threads = pool_->threads();
    for (int64_t u = units * part / threads; u < units * (part + 1) / threads; ++u) {
      const Unit unit = UnitAt(u);
      Pack(unit, x, panel);
      ForEachTile(unit, [&](ShiftTile, int64_t in, int64_t out) {
        kernels_.multiply(Rows(), tile_, values, panel + in, y + out, rows);
      });
    }
  });
}

void ShiftedProduct::Gradient(const float* dy, const float* x, int64_t width,
                              float* gradient) const {
  const int64_t units = UnitCount(width);
  const int64_t row_count = static_cast<int64_t>(begin_.size()) - 1;
  ParallelParts(pool_->threads(), [&](int part) {
    // Rows with near-equal nonzeros; each thread packs for itself, which is little beside its sums.
    const auto bound = [&](int p) {
      const int64_t share = nnz() * p / pool_->threads();
      return p == pool_->threads()
                 ? row_count
                 : std::ranges::lower_bound(begin_.begin(), begin_.end() - 1, share) -
                       begin_.begin();
    };
    const RowRange rows = {bound(part), bound(part + 1)};
    if (begin_[rows.begin] == begin_[rows.end]) return;
    float* panel = pool_->Get(part, panel_floats());
    bool add = false;
    for (int64_t u = 0; u < units; ++u) {
      const Unit unit = UnitAt(u);
      Pack(unit, x, panel);
      ForEachTile(unit, [&](ShiftTile skip, int64_t in, int64_t out) {
        kernels_.gradient(Rows(), tile_, skip, dy + out, panel + in, add, gradient, rows);
        add = true;
      });
    }
  });
}

}  // namespace espalier::worker::engine
