// RmsNormLayer: each column divided by its root mean square, times a learned weight per feature.
#pragma once

#include <memory>

#include "worker/engine/layers/layer.h"

namespace espalier::worker::engine {

class RmsNormLayer final : public Layer {
 public:
  static absl::StatusOr<std::unique_ptr<RmsNormLayer>> Create(const LayerSpec& spec,
                                                              const MapShape& input,
                                                              BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kExact; }

 private:
  RmsNormLayer(const LayerSpec& spec, const MapShape& input, int64_t offset, BuildContext& context)
      : Layer(input, context), epsilon_(spec.epsilon), offset_(offset) {}

  double epsilon_;
  int64_t offset_;
};

}  // namespace espalier::worker::engine
