// Residual: activation(body(x) + shortcut(x)), where an empty shortcut is x itself (He et al.
// 2015).
#pragma once

#include <memory>
#include <vector>

#include "worker/engine/dropout.h"
#include "worker/engine/layers/chain.h"

namespace espalier::worker::engine {

class Residual final : public Layer {
 public:
  // Errors: NETWORK_SPEC when the branches differ in shape or the body is empty; those of layers.
  static absl::StatusOr<std::unique_ptr<Residual>> Create(const LayerSpec& spec,
                                                          const MapShape& input,
                                                          bool input_gradient,
                                                          BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  void CollectProducts(std::vector<const ProductLayer*>& products) const override;
  int64_t ActivationBytes() const override;
  OutputUse input_use() const override;

 private:
  OutputUse own_use() const override { return UseOf(activation_, no_dropout_); }
  Residual(Activation activation, const MapShape& input, Chain body, Chain shortcut,
           BuildContext& context);
  template <typename Body>
  void ForRows(const Body& body) const;

  Activation activation_;
  int64_t input_features_;
  DropoutMask no_dropout_;
  Chain body_;
  Chain shortcut_;
};

}  // namespace espalier::worker::engine
