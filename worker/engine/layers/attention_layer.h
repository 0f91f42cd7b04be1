// AttentionLayer: queries, keys and values of each token, rotated by its position, and what each
// head takes from the values. Its output goes through a linear layer of its own afterwards.
//
// Tensors: weights of query, key and value, sparsifiable, without biases.
#pragma once

#include <memory>
#include <vector>

#include "worker/engine/layers/layer.h"
#include "worker/engine/layers/product_layer.h"
#include "worker/engine/sequence/attention.h"
#include "worker/engine/sequence/rotary.h"

namespace espalier::worker::engine {

class AttentionLayer final : public Layer {
 public:
  // `index` as in ProductLayer. Errors: NETWORK_SPEC, SHAPE_MISMATCH, those of the backend.
  static absl::StatusOr<std::unique_ptr<AttentionLayer>> Create(const LayerSpec& spec,
                                                                const MapShape& input, size_t index,
                                                                BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  void CollectProducts(std::vector<const ProductLayer*>& products) const override;

 private:
  AttentionLayer(const LayerSpec& spec, BuildContext& context);
  // Where the sequences of a batch begin and end.
  std::vector<int64_t> Bounds(const Pass& pass) const;
  void Rotate(std::span<const int64_t> bounds, bool inverse, float* q, float* k) const;

  AttentionShape attention_;
  int64_t sequence_;
  Rotary rotary_;
  std::unique_ptr<ProductLayer> query_;
  std::unique_ptr<ProductLayer> key_;
  std::unique_ptr<ProductLayer> value_;
};

}  // namespace espalier::worker::engine
