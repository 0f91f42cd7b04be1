// AttentionLayer: queries, keys and values of each token, rotated by its position where positions
// are rotary, and what each head takes from the values. Its output goes through a linear layer of
// its own afterwards.
//
// Tensors: weights of query, key and value, or one weight whose outputs are these three after each
//          other (fused); sparsifiable, each with a bias if the spec says so.
#pragma once

#include <memory>
#include <optional>
#include <span>
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
  OutputUse input_use() const override { return OutputUse::kExact; }
  void CollectProducts(std::vector<const ProductLayer*>& products) const override;

 private:
  // Queries, keys and values, or their gradients: [features][stride] each.
  struct Projected {
    float* query;
    float* key;
    float* value;
  };
  AttentionLayer(const LayerSpec& spec, BuildContext& context);
  int64_t query_features() const { return attention_.heads * attention_.head_size; }
  int64_t key_features() const { return attention_.kv_heads * attention_.head_size; }
  bool fused() const { return products_.size() == 1; }
  // What the products gave out.
  Projected Outputs() const;
  // Where the sequences of a batch begin and end.
  std::vector<int64_t> Bounds(const Pass& pass) const;
  void Rotate(std::span<const int64_t> bounds, bool inverse, const Projected& projected) const;
  // Backward pass of products_[i]; from the second on what it adds to `input_delta`.
  void BackwardProduct(size_t i, const Pass& pass, const float* input, float* delta,
                       float* input_delta, const BackwardTarget& target);

  AttentionShape attention_;
  int64_t sequence_;
  std::optional<Rotary> rotary_;
  // Query, key and value; fused: one for all.
  std::vector<std::unique_ptr<ProductLayer>> products_;
};

}  // namespace espalier::worker::engine
