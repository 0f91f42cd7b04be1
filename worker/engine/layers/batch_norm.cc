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

// Partial sums in lanes, a fixed order that vectorises; several vectors of them, so that one
// addition need not wait for the one before. Those of a few rows at a time are then added in
// double, so that large images lose nothing.
constexpr int64_t kRowsPerSum = 16;
constexpr int64_t kSumLanes = 4 * kLanes;

double TakeSum(float (&lanes)[kSumLanes]) {
  float sum = 0;
  for (float& lane : lanes) {
    sum += lane;
    lane = 0;
  }
  return sum;
}

bool EndsSum(int64_t row, int64_t rows) {
  return row % kRowsPerSum == kRowsPerSum - 1 || row + 1 == rows;
}

// Calls add(index, lane) for the `size` values of a row.
template <typename Add>
inline void ForLanes(int64_t size, const Add& add) {
  int64_t b = 0;
  for (; b + kSumLanes <= size; b += kSumLanes) {
    for (int64_t lane = 0; lane < kSumLanes; ++lane) add(b + lane, lane);
  }
  for (; b + kLanes <= size; b += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) add(b + lane, lane);
  }
  for (int64_t lane = 0; b + lane < size; ++lane) add(b + lane, lane);
}

// Σ x over the values that count.
ESPALIER_MULTIVERSION
double Sum(const float* x, const Channel& c) {
  double sum = 0;
  float lanes[kSumLanes] = {};
  for (int64_t p = 0; p < c.positions; ++p, x += c.stride) {
    ForLanes(c.size, [&](int64_t b, int64_t lane) { lanes[lane] += x[b]; });
    if (EndsSum(p, c.positions)) sum += TakeSum(lanes);
  }
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
  float first[kSumLanes] = {};
  float second[kSumLanes] = {};
  for (int64_t p = 0; p < c.positions; ++p, x += c.stride) {
    ForLanes(c.size, [&](int64_t b, int64_t lane) {
      const float d = x[b] - center;
      first[lane] += d;
      second[lane] += d * d;
    });
    if (!EndsSum(p, c.positions)) continue;
    sums.first += TakeSum(first);
    sums.second += TakeSum(second);
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
  float first[kSumLanes] = {};
  float second[kSumLanes] = {};
  for (int64_t p = 0; p < c.positions; ++p, x += c.stride, delta += c.stride) {
    ForLanes(c.size, [&](int64_t b, int64_t lane) {
      first[lane] += delta[b];
      second[lane] += delta[b] * (x[b] - mean);
    });
    if (!EndsSum(p, c.positions)) continue;
    sums.first += TakeSum(first);
    sums.second += TakeSum(second);
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

// The same values in fewer, longer rows where no gaps are between them: a batch of 16 would fill a
// quarter of the lanes.
Channel Folded(Channel c) {
  while (c.size == c.stride && 2 * c.size <= kSumLanes && c.positions % 2 == 0) {
    c = {c.positions / 2, 2 * c.stride, 2 * c.size, 2 * c.width};
  }
  return c;
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

void BatchNorm::UpdateStatistics(const Pass& pass, const float* x, int64_t channel) {
  const Channel c = Folded(ChannelOf(shape(), stride(), pass));
  const auto n = static_cast<double>(c.positions * c.size);
  float& running_mean = pass.values[mean_offset_ + channel];
  float& running_variance = pass.values[variance_offset_ + channel];
  double mean = running_mean;
  double variance = running_variance;
  if (pass.mode != Mode::kEvaluate) {
    // A value near the mean keeps the rounding errors of the second sum small.
    const double near = Sum(x, c) / n;
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
  mean_.data()[channel] = static_cast<float>(mean);
  inverse_deviation_.data()[channel] = static_cast<float>(1 / std::sqrt(variance + spec_.epsilon));
}

void BatchNorm::Forward(const Pass& pass, const float* input) {
  const Channel rows = ChannelOf(shape(), stride(), pass);
  const Channel c = Folded(rows);
  float* y = mutable_output();
  ParallelRows(threads(), shape().channels, [&](RowRange channels) {
    // One channel after the other: it stays in the cache for all that is done with it.
    for (int64_t i = channels.begin; i < channels.end; ++i) {
      const int64_t first = i * c.positions * c.stride;
      UpdateStatistics(pass, input + first, i);
      const float factor = pass.values[scale_offset_ + i] * inverse_deviation_.data()[i];
      const float offset = pass.values[shift_offset_ + i] - mean_.data()[i] * factor;
      Scale(input + first, c, factor, offset, y + first);
      BiasActivate(spec_.activation, nullptr, y, stride(), rows.width,
                   {i * rows.positions, (i + 1) * rows.positions});
    }
  });
}

void BatchNorm::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                         const BackwardTarget& target) {
  const Channel rows = ChannelOf(shape(), stride(), pass);
  const Channel c = Folded(rows);
  const double n = static_cast<double>(c.positions * c.size);
  float* scale_gradient = workspace().vector().data();
  float* shift_gradient = scale_gradient + shape().channels;
  ParallelRows(threads(), shape().channels, [&](RowRange channels) {
    for (int64_t i = channels.begin; i < channels.end; ++i) {
      ActivationBackward(spec_.activation, no_dropout_, delta, rows.width,
                         {i * rows.positions, (i + 1) * rows.positions});
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
