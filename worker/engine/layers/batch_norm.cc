#include "worker/engine/layers/batch_norm.h"

#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/activation.h"
#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

// A channel of one batch: `positions` rows of which `size` columns count and `width` are stored.
struct Channel {
  int64_t positions;
  int64_t stride;
  int64_t size;
  int64_t width;
};

// Partial sums in lanes, a fixed order that vectorises; those of a few rows at a time are then
// added in double, so that large images lose nothing.
constexpr int64_t kRowsPerSum = 16;

double SumOf(const float (&lanes)[kLanes]) {
  float sum = 0;
  for (const float lane : lanes) sum += lane;
  return sum;
}

// Σ (x − center) and Σ (x − center)² over the values that count.
struct Sums {
  double first = 0;
  double second = 0;
};

ESPALIER_MULTIVERSION
Sums SumAround(const float* x, const Channel& c, float center) {
  Sums sums;
  const int64_t whole = c.size / kLanes * kLanes;
  float first[kLanes] = {};
  float second[kLanes] = {};
  for (int64_t p = 0; p < c.positions; ++p, x += c.stride) {
    for (int64_t b = 0; b < whole; b += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        const float d = x[b + lane] - center;
        first[lane] += d;
        second[lane] += d * d;
      }
    }
    for (int64_t b = whole; b < c.size; ++b) {
      const float d = x[b] - center;
      first[b - whole] += d;
      second[b - whole] += d * d;
    }
    if (p % kRowsPerSum != kRowsPerSum - 1 && p + 1 < c.positions) continue;
    sums.first += SumOf(first);
    sums.second += SumOf(second);
    std::fill_n(first, kLanes, 0.0F);
    std::fill_n(second, kLanes, 0.0F);
  }
  return sums;
}

// y = x·factor + offset where it counts, 0 in the padding.
ESPALIER_MULTIVERSION
void Scale(const float* x, const Channel& c, float factor, float offset, float* y) {
  for (int64_t p = 0; p < c.positions; ++p, x += c.stride, y += c.stride) {
    for (int64_t b = 0; b < c.size; ++b) y[b] = x[b] * factor + offset;
    for (int64_t b = c.size; b < c.width; ++b) y[b] = 0.0F;
  }
}

// Σ delta and Σ delta·(x − mean); the padding of delta is zero.
ESPALIER_MULTIVERSION
Sums DeltaSums(const float* delta, const float* x, const Channel& c, float mean) {
  Sums sums;
  const int64_t whole = c.size / kLanes * kLanes;
  float first[kLanes] = {};
  float second[kLanes] = {};
  for (int64_t p = 0; p < c.positions; ++p, x += c.stride, delta += c.stride) {
    for (int64_t b = 0; b < whole; b += kLanes) {
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        first[lane] += delta[b + lane];
        second[lane] += delta[b + lane] * (x[b + lane] - mean);
      }
    }
    for (int64_t b = whole; b < c.size; ++b) {
      first[b - whole] += delta[b];
      second[b - whole] += delta[b] * (x[b] - mean);
    }
    if (p % kRowsPerSum != kRowsPerSum - 1 && p + 1 < c.positions) continue;
    sums.first += SumOf(first);
    sums.second += SumOf(second);
    std::fill_n(first, kLanes, 0.0F);
    std::fill_n(second, kLanes, 0.0F);
  }
  return sums;
}

// dX = factor·(delta − mean_delta − (x − mean)·slope) where it counts, 0 in the padding.
ESPALIER_MULTIVERSION
void InputGradient(const float* delta, const float* x, const Channel& c, float factor,
                   float mean_delta, float mean, float slope, float* dx) {
  for (int64_t p = 0; p < c.positions; ++p) {
    for (int64_t b = 0; b < c.size; ++b) {
      dx[b] = factor * (delta[b] - mean_delta - (x[b] - mean) * slope);
    }
    for (int64_t b = c.size; b < c.width; ++b) dx[b] = 0.0F;
    delta += c.stride;
    x += c.stride;
    dx += c.stride;
  }
}

Channel ChannelOf(const MapShape& shape, int64_t stride, const Pass& pass) {
  return {shape.positions(), stride, pass.extent.size, pass.extent.width};
}

}  // namespace

absl::StatusOr<std::unique_ptr<BatchNorm>> BatchNorm::Create(const LayerSpec& spec,
                                                             const MapShape& input,
                                                             BuildContext& context) {
  if (!(spec.momentum > 0 && spec.momentum <= 1) || !(spec.epsilon > 0)) {
    return SpecError(
        fmt::format("batch norm needs 0 < momentum ≤ 1 and epsilon > 0, found {} and {}",
                    spec.momentum, spec.epsilon));
  }
  std::unique_ptr<BatchNorm> layer(new BatchNorm(spec, input, context));
  for (int64_t* offset : {&layer->scale_offset_, &layer->shift_offset_, &layer->mean_offset_,
                          &layer->variance_offset_}) {
    ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, input.channels, 1));
    *offset = context.topology.offset(context.next_tensor++);
  }
  context.workspace.NeedVector(2 * input.channels);
  return layer;
}

BatchNorm::BatchNorm(const LayerSpec& spec, const MapShape& input, BuildContext& context)
    : Layer(input, context),
      spec_(spec),
      mean_(input.channels),
      inverse_deviation_(input.channels) {}

void BatchNorm::UpdateStatistics(const Pass& pass, const float* input, RowRange channels) {
  const Channel c = ChannelOf(shape(), stride(), pass);
  const auto n = static_cast<double>(c.positions * c.size);
  for (int64_t i = channels.begin; i < channels.end; ++i) {
    float& running_mean = pass.values[mean_offset_ + i];
    float& running_variance = pass.values[variance_offset_ + i];
    double mean = running_mean;
    double variance = running_variance;
    if (pass.mode != Mode::kEvaluate) {
      const float* x = input + i * c.positions * c.stride;
      // A value near the mean keeps the rounding errors of the second sum small.
      const double near = SumAround(x, c, 0.0F).first / n;
      const Sums sums = SumAround(x, c, static_cast<float>(near));
      const double error = sums.first / n;
      mean = static_cast<float>(near) + error;
      variance = std::max(0.0, sums.second / n - error * error);
      // One value says nothing of a variance: running statistics stay as they are.
      if (n > 1 && (pass.mode == Mode::kTrain || pass.mode == Mode::kCalibrate)) {
        const double unbiased = variance * n / (n - 1);
        const double m = pass.momentum.value_or(spec_.momentum);
        running_mean = static_cast<float>((1 - m) * running_mean + m * mean);
        running_variance = static_cast<float>((1 - m) * running_variance + m * unbiased);
      }
    }
    mean_.data()[i] = static_cast<float>(mean);
    inverse_deviation_.data()[i] = static_cast<float>(1 / std::sqrt(variance + spec_.epsilon));
  }
}

void BatchNorm::Forward(const Pass& pass, const float* input) {
  const Channel c = ChannelOf(shape(), stride(), pass);
  float* y = mutable_output();
  ParallelRows(threads(), shape().channels, [&](RowRange channels) {
    UpdateStatistics(pass, input, channels);
    for (int64_t i = channels.begin; i < channels.end; ++i) {
      const float factor = pass.values[scale_offset_ + i] * inverse_deviation_.data()[i];
      const float offset = pass.values[shift_offset_ + i] - mean_.data()[i] * factor;
      const int64_t first = i * c.positions * c.stride;
      Scale(input + first, c, factor, offset, y + first);
    }
    const RowRange rows = {channels.begin * c.positions, channels.end * c.positions};
    BiasActivate(spec_.activation, nullptr, y, stride(), c.width, rows);
  });
}

void BatchNorm::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                         const BackwardTarget& target) {
  const Channel c = ChannelOf(shape(), stride(), pass);
  const double n = static_cast<double>(c.positions * c.size);
  float* scale_gradient = workspace().vector().data();
  float* shift_gradient = scale_gradient + shape().channels;
  ParallelRows(threads(), shape().channels, [&](RowRange channels) {
    const RowRange rows = {channels.begin * c.positions, channels.end * c.positions};
    ActivationBackward(spec_.activation, no_dropout_, delta, c.width, rows);
    for (int64_t i = channels.begin; i < channels.end; ++i) {
      const int64_t first = i * c.positions * c.stride;
      const float mean = mean_.data()[i];
      const double inverse = inverse_deviation_.data()[i];
      const Sums sums = DeltaSums(delta + first, input + first, c, mean);
      scale_gradient[i] = static_cast<float>(sums.second * inverse);
      shift_gradient[i] = static_cast<float>(sums.first);
      if (input_delta == nullptr) continue;
      const auto factor = static_cast<float>(pass.values[scale_offset_ + i] * inverse);
      InputGradient(delta + first, input + first, c, factor, static_cast<float>(sums.first / n),
                    mean, static_cast<float>(sums.second * inverse * inverse / n),
                    input_delta + first);
    }
  });
  if (!target.gradients) return;
  const auto count = static_cast<size_t>(shape().channels);
  target.gradients(scale_offset_, {scale_gradient, count});
  target.gradients(shift_offset_, {shift_gradient, count});
}

}  // namespace espalier::worker::engine
