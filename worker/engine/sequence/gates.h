// Elementwise functions of feed-forward layers.
// Threading: a call touches `count` values.
// Determinism: SwiGlu gives the same bits on every processor; the others call the C library's erff,
//              expf and tanhf.
#pragma once

#include <cstdint>

namespace espalier::worker::engine {

// gate = silu(gate) · up, with silu(x) = x / (1 + e^−x) (Shazeer 2020, SwiGLU).
void SwiGlu(const float* up, int64_t count, float* gate);
// Given the inputs of SwiGlu and the gradient `delta` of its output: `gate` and `up` become the
// gradients with respect to themselves.
void SwiGluGradient(const float* delta, int64_t count, float* gate, float* up);

// x = x · Φ(x).
void Gelu(int64_t count, float* x);
// x = ½x · (1 + tanh(√(2/π)(x + 0.044715x³))), which GPT-2 uses.
void GeluTanh(int64_t count, float* x);
// delta = delta · the derivative of Gelu or GeluTanh at x.
void GeluGradient(const float* x, int64_t count, float* delta);
void GeluTanhGradient(const float* x, int64_t count, float* delta);

}  // namespace espalier::worker::engine
