// NormLayer: each column divided by its root mean square (RMSNorm), or freed of its mean and
// divided by its deviation (LayerNorm); then times a learned weight per feature, of LayerNorm plus
// a bias.
//
// Tensors: weight, of LayerNorm also bias; both dense.
#pragma once

#include <memory>

#include "worker/engine/layers/layer.h"

namespace espalier::worker::engine {

class NormLayer final : public Layer {
 public:
  // `centered`: LayerNorm, else RMSNorm. Errors: NETWORK_SPEC, SHAPE_MISMATCH.
  static absl::StatusOr<std::unique_ptr<NormLayer>> Create(bool centered, double epsilon,
                                                           const MapShape& input,
                                                           BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kExact; }

 private:
  NormLayer(bool centered, double epsilon, const MapShape& input, BuildContext& context)
      : Layer(input, context), centered_(centered), epsilon_(epsilon) {}

  bool centered_;  // LayerNorm
  double epsilon_;
  int64_t weight_offset_ = 0;
  int64_t bias_offset_ = 0;  // meaningful when centered_
};

}  // namespace espalier::worker::engine
