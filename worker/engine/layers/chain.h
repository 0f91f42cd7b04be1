// Chain: layers one after the other.
#pragma once

#include <memory>
#include <vector>

#include "worker/engine/layers/layer.h"

namespace espalier::worker::engine {

class Chain {
 public:
  // `input_gradient`: whether Backward() will be asked for it. Errors: those of the layers.
  static absl::StatusOr<Chain> Create(std::span<const LayerSpec> specs, const MapShape& input,
                                      bool input_gradient, BuildContext& context);

  bool empty() const { return layers_.empty(); }
  const Layer& back() const { return *layers_.back(); }
  Layer& back() { return *layers_.back(); }
  // Of the output; of the input when there are no layers.
  const MapShape& shape() const { return shape_; }

  // What the first layer's backward pass reads of the input; kNone when there are no layers.
  OutputUse input_use() const {
    return layers_.empty() ? OutputUse::kNone : layers_.front()->input_use();
  }
  int64_t ActivationBytes() const;

  // As in Layer; not for an empty chain. The output of back() is the caller's to plan and to
  // release.
  void Forward(const Pass& pass, const float* input);
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target);
  void CollectProducts(std::vector<const ProductLayer*>& products) const;

 private:
  explicit Chain(Workspace& workspace) : workspace_(&workspace) {}

  Workspace* workspace_;
  MapShape shape_;
  std::vector<std::unique_ptr<Layer>> layers_;
};

}  // namespace espalier::worker::engine
