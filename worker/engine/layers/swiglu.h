// SwiGluLayer: silu(gate · x) ∘ (up · x). A linear layer of its own goes after it.
//
// Tensors: weights of gate and up, sparsifiable, each with a bias if the spec says so.
#pragma once

#include <memory>
#include <vector>

#include "worker/engine/layers/layer.h"
#include "worker/engine/layers/product_layer.h"

namespace espalier::worker::engine {

class SwiGluLayer final : public Layer {
 public:
  static absl::StatusOr<std::unique_ptr<SwiGluLayer>> Create(const LayerSpec& spec,
                                                             const MapShape& input, size_t index,
                                                             BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kExact; }
  void CollectProducts(std::vector<const ProductLayer*>& products) const override;

 private:
  SwiGluLayer(const LayerSpec& spec, BuildContext& context)
      : Layer({.channels = spec.units}, context) {}

  std::unique_ptr<ProductLayer> gate_;
  std::unique_ptr<ProductLayer> up_;
};

}  // namespace espalier::worker::engine
