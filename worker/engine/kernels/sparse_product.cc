#include "worker/engine/kernels/sparse_product.h"

#include <algorithm>

#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

// Share of a 1 MiB second-level cache that a panel of X may take. A constant and not the size found
// at run time: what a network computes must not depend on where it runs.
constexpr int64_t kPanelBytes = 700 << 10;
// Cutting the columns further than this costs more in loop starts than the cache gives back.
constexpr int64_t kMinNonzerosPerPanelRow = 4;

// Tiles of more blocks than this pay off where rows still have this many nonzeros in their panels.
constexpr int64_t kNarrowBlocks = 8;
constexpr int64_t kMinNonzerosPerWideRow = 16;

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Panels such that the part of X behind one of them fits.
int64_t FittingPanels(const tensor::Topology& topology, int64_t tile_blocks) {
  const int64_t row_bytes = tile_blocks * kLanes * static_cast<int64_t>(sizeof(float));
  return CeilDivide(topology.cols() * row_bytes, kPanelBytes);
}

// Blocks of examples that are worked on together. Wide tiles read the structure less often, but
// leave room for fewer columns in a panel, so that rows begin and end more often.
int64_t TileBlocks(const tensor::Topology& topology, int64_t blocks, int64_t max_blocks) {
  const int64_t wide = CeilDivide(blocks, CeilDivide(blocks, max_blocks));
  const int64_t panel_rows = topology.rows() * FittingPanels(topology, wide);
  const bool affordable = topology.nnz() >= kMinNonzerosPerWideRow * panel_rows;
  return affordable ? wide : std::min(wide, kNarrowBlocks);
}

int64_t PanelCount(const tensor::Topology& topology, int64_t tile_blocks) {
  const int64_t wanted = FittingPanels(topology, tile_blocks);
  const int64_t affordable = topology.nnz() / (kMinNonzerosPerPanelRow * topology.rows());
  return std::clamp<int64_t>(wanted, 1, std::max<int64_t>(affordable, 1));
}

std::vector<int32_t> SplitColumns(const tensor::Topology& topology, int64_t panels) {
  std::vector<int32_t> splits;
  splits.reserve((panels - 1) * topology.rows());
  const auto columns = topology.columns();
  const auto offsets = topology.row_offsets();
  for (int64_t panel = 1; panel < panels; ++panel) {
    const int64_t bound = topology.cols() * panel / panels;
    for (int64_t row = 0; row < topology.rows(); ++row) {
      const auto split = std::lower_bound(columns.begin() + offsets[row],
                                          columns.begin() + offsets[row + 1], bound);
      splits.push_back(static_cast<int32_t>(split - columns.begin()));
    }
  }
  return splits;
}

}  // namespace

std::vector<int64_t> BalanceRows(std::span<const int32_t> offsets, int parts) {
  // A row costs its nonzeros plus about as much as four for starting and storing it.
  const auto rows = static_cast<int64_t>(offsets.size()) - 1;
  const int64_t total = offsets.back() + 4 * rows;
  std::vector<int64_t> bounds = {0};
  int64_t row = 0;
  for (int part = 1; part < parts; ++part) {
    while (row < rows && offsets[row] + 4 * row < total * part / parts) ++row;
    bounds.push_back(row);
  }
  bounds.push_back(rows);
  return bounds;
}

KernelSparseProduct::KernelSparseProduct(std::shared_ptr<const tensor::Topology> topology,
                                         int64_t stride, int threads, Isa isa)
    : topology_(std::move(topology)), stride_(stride), kernels_(Kernels(isa)) {
  // Strides are odd numbers of blocks, and most batches even ones: the last block holds no
  // examples.
  const int64_t blocks = std::max<int64_t>(stride_ / kLanes - 1, 1);
  tile_blocks_ = TileBlocks(*topology_, blocks, kernels_.max_blocks);
  panels_ = PanelCount(*topology_, tile_blocks_);
  splits_ = SplitColumns(*topology_, panels_);
  part_begin_ = BalanceRows(topology_->row_offsets(), threads);
}

CsrPanel KernelSparseProduct::Panel(int64_t panel) const {
  const int32_t* offsets = topology_->row_offsets().data();
  const int64_t rows = topology_->rows();
  return {.begin = panel == 0 ? offsets : splits_.data() + (panel - 1) * rows,
          .end = panel == panels_ - 1 ? offsets + 1 : splits_.data() + panel * rows,
          .columns = topology_->columns().data()};
}

template <typename Body>
void KernelSparseProduct::ForEachTile(int64_t width, const Body& body) const {
  const int64_t blocks = CeilDivide(width, kLanes);
  // One block more than planned for does not need a tile of its own.
  const int64_t tiles = CeilDivide(blocks, std::min(tile_blocks_ + 1, kernels_.max_blocks));
  ParallelParts(static_cast<int>(part_begin_.size()) - 1, [&](int part) {
    const RowRange rows = {part_begin_[part], part_begin_[part + 1]};
    for (int64_t tile = 0; tile < tiles; ++tile) {
      const int64_t first = blocks * tile / tiles;
      const Blocks span = {first, blocks * (tile + 1) / tiles - first};
      for (int64_t panel = 0; panel < panels_; ++panel) body(Panel(panel), panel, span, rows);
    }
  });
}

void KernelSparseProduct::Multiply(const float* values, const float* x, int64_t width, float* y) {
  ForEachTile(width, [&](const CsrPanel& panel, int64_t index, Blocks blocks, RowRange rows) {
    kernels_.spmm(panel, values, x, stride_, blocks, index > 0, y, rows);
  });
}

void KernelSparseProduct::Gradient(const float* dy, const float* x, int64_t width,
                                   float* gradient) {
  ForEachTile(width, [&](const CsrPanel& panel, int64_t, Blocks blocks, RowRange rows) {
    kernels_.sddmm(panel, dy, x, stride_, blocks, blocks.first > 0, gradient, rows);
  });
}

}  // namespace espalier::worker::engine
