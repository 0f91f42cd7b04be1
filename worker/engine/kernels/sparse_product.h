// SparseProduct by the hand-written kernels.
//
// A product streams one row of X per nonzero, so its speed is that of the cache level where X lies.
// The plan therefore cuts the batch and the columns of W into panels of X that fit the second-level
// cache, as long as a row keeps a few nonzeros per panel. Sums still run in the order of the
// columns, so Y does not depend on the cuts; for the gradient the cuts of the batch follow from the
// structure, the stride and the instruction set.
// Memory: at most one more int32 per four nonzeros.
#pragma once

#include <span>
#include <vector>

#include "worker/engine/backend.h"
#include "worker/engine/kernels/kernels.h"

namespace espalier::worker::engine {

// Bounds of `parts` ranges of rows that cost about the same; `offsets` are those of the rows'
// nonzeros, one more than there are rows.
std::vector<int64_t> BalanceRows(std::span<const int32_t> offsets, int parts);

class KernelSparseProduct final : public SparseProduct {
 public:
  KernelSparseProduct(std::shared_ptr<const tensor::Topology> topology, int64_t stride, int threads,
                      Isa isa);

  void Multiply(const float* values, const float* x, int64_t width, float* y) override;
  void Gradient(const float* dy, const float* x, int64_t width, float* gradient) override;

 private:
  CsrPanel Panel(int64_t panel) const;
  template <typename Body>
  void ForEachTile(int64_t width, const Body& body) const;

  std::shared_ptr<const tensor::Topology> topology_;
  int64_t stride_;
  const KernelTable& kernels_;
  int64_t tile_blocks_ = 1;
  int64_t panels_ = 1;
  std::vector<int32_t> splits_;      // rows entries for each boundary between panels
  std::vector<int64_t> part_begin_;  // threads + 1 row bounds with near-equal nonzeros
};

}  // namespace espalier::worker::engine
