// GeluLayer: x · Φ(x), or its approximation by tanh, of every value. It has no weights; linear
// layers go before and after it.
#pragma once

#include <memory>

#include "worker/engine/layers/layer.h"

namespace espalier::worker::engine {

class GeluLayer final : public Layer {
 public:
  // `approximate`: by tanh.
  GeluLayer(bool approximate, const MapShape& input, BuildContext& context)
      : Layer(input, context), approximate_(approximate) {}

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kExact; }

 private:
  bool approximate_;
};

}  // namespace espalier::worker::engine
