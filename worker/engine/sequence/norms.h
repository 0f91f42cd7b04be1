// Normalisation of each column (token) over its features.
//
// Shapes:      x, y, dx [features][stride]; the first `width` columns are computed. weight, bias
//              [features].
// Threading:   columns are split over `threads`. Determinism: the same bits for any number of
//              threads; sums over features run in double precision, in order.
// Source:      RMSNorm: Zhang and Sennrich 2019. LayerNorm: Ba, Kiros and Hinton 2016.
#pragma once

#include <cstdint>

namespace espalier::worker::engine {

struct ColumnShape {
  int64_t features = 0;
  int64_t stride = 0;
  int64_t width = 0;
};

// y = x / √(mean(x²) + epsilon) · weight.
void RmsNorm(const ColumnShape& shape, const float* x, const float* weight, double epsilon,
             float* y, int threads);

// y = (x − mean(x)) / √(variance(x) + epsilon) · weight + bias.
void LayerNorm(const ColumnShape& shape, const float* x, const float* weight, const float* bias,
               double epsilon, float* y, int threads);

// Gradients of RmsNorm given dy: dx is overwritten, `weight_gradient` [features] too. Columns of dy
// from the batch's size on must be zero.
void RmsNormGradient(const ColumnShape& shape, const float* x, const float* weight, double epsilon,
                     const float* dy, float* dx, float* weight_gradient, int threads);

// The same of LayerNorm, whose bias has a gradient too.
void LayerNormGradient(const ColumnShape& shape, const float* x, const float* weight,
                       double epsilon, const float* dy, float* dx, float* weight_gradient,
                       float* bias_gradient, int threads);

}  // namespace espalier::worker::engine
