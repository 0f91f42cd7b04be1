#include "worker/engine/layers/transforms/weight_standardization.h"

#include <cmath>
#include <utility>

#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

constexpr double kEpsilon = 1e-10;

}  // namespace

ChannelStandard StandardOf(std::span<const float> weights) {
  if (weights.size() < 2) return {};
  const auto m = static_cast<double>(weights.size());
  double sum = 0;
  for (const float w : weights) sum += w;
  const double mean = sum / m;
  double squares = 0;
  for (const float w : weights) squares += (w - mean) * (w - mean);
  return {.mean = mean, .factor = 1 / std::sqrt(squares + m * kEpsilon)};
}

WeightStandardization::WeightStandardization(std::shared_ptr<const tensor::Topology> topology,
                                             int64_t channels, int64_t cols, int threads)
    : topology_(std::move(topology)),
      channels_(channels),
      cols_(cols),
      threads_(threads),
      standards_(channels),
      standardized_(topology_ ? topology_->nnz() : channels * cols) {}

WeightStandardization::Range WeightStandardization::Stored(int64_t channel) const {
  if (topology_ == nullptr) return {channel * cols_, (channel + 1) * cols_};
  return {topology_->row_offsets()[channel], topology_->row_offsets()[channel + 1]};
}

const float* WeightStandardization::Forward(const float* weights, const float* scale) {
  ParallelRows(threads_, channels_, [&](RowRange channels) {
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      const Range own = Stored(c);
      const ChannelStandard standard =
          StandardOf({weights + own.begin, static_cast<size_t>(own.end - own.begin)});
      standards_[c] = standard;
      for (int64_t k = own.begin; k < own.end; ++k) {
        standardized_.data()[k] =
            static_cast<float>(scale[c] * standard.factor * (weights[k] - standard.mean));
      }
    }
  });
  return standardized_.data();
}

template <typename At>
double WeightStandardization::ToWeights(int64_t channel, const float* weights, const float* scale,
                                        const At& at) const {
  const Range own = Stored(channel);
  const auto m = static_cast<double>(own.end - own.begin);
  const auto [mean, factor] = standards_[channel];
  double sum = 0;
  double of_scale = 0;
  for (int64_t k = own.begin; k < own.end; ++k) {
    const double g = at(k);
    sum += g;
    of_scale += g * factor * (weights[k] - mean);
  }
  // A single weight has no mean or deviation to go through.
  const bool alone = own.end - own.begin == 1;
  const double mean_gradient = alone || own.empty() ? 0 : sum / m;
  for (int64_t k = own.begin; k < own.end; ++k) {
    const double u = alone ? 0 : factor * (weights[k] - mean);
    float& g = at(k);
    g = static_cast<float>(scale[channel] * factor * (g - mean_gradient - u * of_scale));
  }
  return of_scale;
}

void WeightStandardization::Backward(const float* weights, const float* scale,
                                     std::span<float> gradient,
                                     std::span<float> scale_gradient) const {
  ParallelRows(threads_, channels_, [&](RowRange channels) {
    for (int64_t c = channels.begin; c < channels.end; ++c) {
      scale_gradient[c] = static_cast<float>(
          ToWeights(c, weights, scale, [&](int64_t k) -> float& { return gradient[k]; }));
    }
  });
}

void WeightStandardization::BackwardAll(int64_t channel, const float* weights, const float* scale,
                                        std::span<float> gradient) const {
  const Range own = Stored(channel);
  const auto column = [&](int64_t k) {
    return topology_ ? int64_t{topology_->columns()[k]} : k - own.begin;
  };
  ToWeights(channel, weights, scale, [&](int64_t k) -> float& { return gradient[column(k)]; });
  const double factor = scale[channel] * standards_[channel].factor;
  int64_t next = own.begin;
  for (int64_t col = 0; col < cols_; ++col) {
    if (next < own.end && column(next) == col) {
      ++next;
    } else {
      gradient[col] = static_cast<float>(factor * gradient[col]);
    }
  }
}

}  // namespace espalier::worker::engine
