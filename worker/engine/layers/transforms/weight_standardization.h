// Standardised weights: what a convolution multiplies by in place of its stored weights.
//
// Of an output channel with the m active weights w, mean μ, variance σ² and scale γ:
//   ŵ = γ u,  u = (w − μ) / √(m · (σ² + 1e-10)) for m ≥ 2;  u = w for m = 1
// so that ŵ sums to 0 and its squares to γ². Inactive positions count in none of these. A channel
// of two weights has ŵ = ±γ / √2, which moves with γ alone.
//
// Gradient:    with G that of ŵ: ∂γ = Σ G u and ∂w = γ (G − mean G − u Σ G u) / √(m · (σ² +
//              1e-10)). At an inactive position γ G / √(…): that of a new weight while μ, σ and m
//              stay as they are.
// Shapes:      weights and their gradients in the order of the structure; scales one per channel.
// Memory:      4 bytes per active weight, 16 per channel.
// Threading:   one caller at a time; channels are split over threads. Determinism: the same bits
//              for any number of threads.
// Source:      Qiao et al. 2019 (weight standardisation), Brock et al., ICLR 2021 (its scaled
//              form); over active weights as FedMef does without batch norm.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/tensor/topology.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/layers/weight_transform.h"

namespace espalier::worker::engine {

// u = factor · (w − mean).
struct ChannelStandard {
  double mean = 0;
  double factor = 1;
};
ChannelStandard StandardOf(std::span<const float> weights);

class WeightStandardization final : public WeightTransform {
 public:
  // `topology` null: all of channels × cols weights are stored.
  WeightStandardization(std::shared_ptr<const tensor::Topology> topology, int64_t channels,
                        int64_t cols, int threads);

  // The scales.
  std::vector<TensorShape> own_tensors() const override { return {{channels_, 1}}; }
  // Remembers the statistics of these weights.
  const float* Forward(const float* weights, const float* scale) override;
  const float* effective() const override { return standardized_.data(); }
  void Backward(const float* weights, const float* scale, std::span<float> gradient,
                std::span<float> scale_gradient) const override;
  void BackwardAll(int64_t channel, const float* weights, const float* scale,
                   std::span<float> gradient) const override;

 private:
  struct Range {
    int64_t begin;
    int64_t end;
    bool empty() const { return begin == end; }
  };
  Range Stored(int64_t channel) const;
  // Replaces active[i]'s gradient, given by at(i), by that of the weight; returns the scale's.
  template <typename At>
  double ToWeights(int64_t channel, const float* weights, const float* scale, const At& at) const;

  std::shared_ptr<const tensor::Topology> topology_;
  int64_t channels_;
  int64_t cols_;
  int threads_;
  std::vector<ChannelStandard> standards_;
  AlignedBuffer standardized_;
};

}  // namespace espalier::worker::engine
