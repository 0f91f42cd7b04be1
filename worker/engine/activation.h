// Elementwise passes over feature-major activations, in place, on the rows and width given.
// Threading:   a call touches only its rows.
// Determinism: same bits on every processor for linear and ReLU; sigmoid, tanh and softmax call the
//              C library's expf and tanhf.
#pragma once

#include <cstdint>

#include "worker/engine/dropout.h"
#include "worker/engine/kernels/kernels.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

// Y[r] = activation(Y[r] + bias[r / positions]); `bias` may be null. Softmax only gets its bias
// here: it needs all rows, see Softmax().
void BiasActivate(Activation activation, const float* bias, float* y, int64_t stride, int64_t width,
                  RowRange rows, int64_t positions = 1);

// Softmax over the rows of each of the first `width` columns.
void Softmax(float* y, int64_t stride, int64_t width, int64_t rows);

// delta[r] = delta[r] · ∂output/∂preactivation, given the layer's output (after `dropout`).
// Elementwise activations only.
void ActivationGradient(Activation activation, const DropoutMask& dropout, const float* output,
                        float* delta, int64_t stride, int64_t width, RowRange rows);

// For softmax: delta = p ∘ (delta − Σ_rows delta ∘ p) in each column.
void SoftmaxGradient(const float* output, float* delta, int64_t stride, int64_t width,
                     int64_t rows);

// gradient[c] = Σ_b Σ_p delta[c·positions + p][b], for the channels given.
void BiasGradient(const float* delta, int64_t stride, int64_t width, int64_t positions,
                  RowRange channels, float* gradient);

// y += x and y = x on the rows and width given.
void AddRows(const float* x, float* y, int64_t stride, int64_t width, RowRange rows);
void CopyRows(const float* x, float* y, int64_t stride, int64_t width, RowRange rows);

}  // namespace espalier::worker::engine
