// The products of a convolution with one sparse weight of fixed structure, by the hand-written
// kernels.
//
// Memory:      per active weight 4 bytes for the forward offset and, with the input gradient, 8
//              more for its offset and a permutation.
// Threading, determinism: as ShiftedProduct.
#pragma once

#include <memory>
#include <vector>

#include "common/tensor/topology.h"
#include "worker/engine/backend.h"
#include "worker/engine/kernels/shifted_product.h"

namespace espalier::worker::engine {

class KernelSparseConvolution final : public SparseConvolution {
 public:
  // `topology` is out_channels × cols() of `shape`. Errors: InvalidArgument (NETWORK_SPEC) when a
  // piece of the image is too large to be addressed.
  static absl::StatusOr<std::unique_ptr<SparseConvolution>> Create(
      const tensor::Topology& topology, const ConvShape& shape, int64_t stride, bool input_gradient,
      std::shared_ptr<PanelPool> pool, Isa isa);

  int64_t scratch() const override { return static_cast<int64_t>(permutation_.size()); }
  void Forward(const float* values, const float* x, int64_t width, float* y) override;
  void InputGradient(const float* values, const float* dy, int64_t width, float* dx,
                     float* scratch) override;
  void WeightGradient(const float* dy, const float* x, int64_t width, float* gradient) override;

 private:
  KernelSparseConvolution(ShiftedProduct forward, int threads)
      : forward_(std::move(forward)), threads_(threads) {}

  ShiftedProduct forward_;
  std::vector<ShiftedProduct> backward_;  // one per phase of the image; none without input gradient
  std::vector<int32_t> permutation_;      // their values, one after the other, from topology order
  int threads_;
};

}  // namespace espalier::worker::engine
