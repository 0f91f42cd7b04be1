// BatchNorm: activation((x − mean) / √(variance + epsilon) · scale + shift), channel by channel.
//
// While training, mean and variance are those of the batch over examples and positions, and the
// running ones move towards them: running = (1 − momentum)·running + momentum·batch, with the
// variance divided by n − 1 (PyTorch's form). In evaluation the running ones are used. Padded
// columns never count, and their outputs are activation(0). One value per channel (n = 1) has
// variance 0: its output is shift, no gradient passes, and the running ones stay.
// Determinism: a channel is summed by one thread in a fixed order, so that results do not depend on
//              their number.
// Source:      Ioffe and Szegedy 2015.
#pragma once

#include <memory>

#include "worker/engine/dropout.h"
#include "worker/engine/layers/layer.h"

namespace espalier::worker::engine {

class BatchNorm final : public Layer {
 public:
  static absl::StatusOr<std::unique_ptr<BatchNorm>> Create(const LayerSpec& spec,
                                                           const MapShape& input,
                                                           BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kExact; }

 private:
  OutputUse own_use() const override { return UseOf(spec_.activation, no_dropout_); }
  BatchNorm(const LayerSpec& spec, const MapShape& input, BuildContext& context);
  // Fills mean_ and inverse_deviation_ of one channel, which `x` is, and moves its running
  // statistics while training.
  void UpdateStatistics(const Pass& pass, const float* x, int64_t channel);

  LayerSpec spec_;
  DropoutMask no_dropout_;
  int64_t scale_offset_ = 0;
  int64_t shift_offset_ = 0;
  int64_t mean_offset_ = 0;
  int64_t variance_offset_ = 0;
  // Of the last Forward(), by channel.
  AlignedBuffer mean_;
  AlignedBuffer inverse_deviation_;
};

}  // namespace espalier::worker::engine
