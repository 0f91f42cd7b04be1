#include "worker/engine/sequence/gates.h"

#include <cmath>

#include "worker/engine/multiversion.h"
#include "worker/engine/sequence/exponential.h"

namespace espalier::worker::engine {

ESPALIER_MULTIVERSION void SwiGlu(const float* up, int64_t count, float* gate) {
  for (int64_t i = 0; i < count; ++i) gate[i] = gate[i] / (1.0f + Exponential(-gate[i])) * up[i];
}

ESPALIER_MULTIVERSION void SwiGluGradient(const float* delta, int64_t count, float* gate,
                                          float* up) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = gate[i];
    const float sigmoid = 1.0f / (1.0f + Exponential(-x));
    const float silu = x * sigmoid;
    gate[i] = delta[i] * up[i] * (sigmoid + silu * (1.0f - sigmoid));
    up[i] = delta[i] * silu;
  }
}

namespace {

constexpr float kInverseRoot2 = 0.70710678118654752f;
constexpr float kInverseRoot2Pi = 0.39894228040143268f;
constexpr float kRoot2OverPi = 0.79788456080286536f;
constexpr float kCubic = 0.044715f;

}  // namespace

void Gelu(int64_t count, float* x) {
  for (int64_t i = 0; i < count; ++i) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * kInverseRoot2));
}

void GeluTanh(int64_t count, float* x) {
  for (int64_t i = 0; i < count; ++i) {
    const float inner = kRoot2OverPi * (x[i] + kCubic * x[i] * x[i] * x[i]);
    x[i] = 0.5f * x[i] * (1.0f + std::tanh(inner));
  }
}

void GeluGradient(const float* x, int64_t count, float* delta) {
  for (int64_t i = 0; i < count; ++i) {
    const float share = 0.5f * (1.0f + std::erf(x[i] * kInverseRoot2));
    const float density = kInverseRoot2Pi * std::exp(-0.5f * x[i] * x[i]);
    delta[i] *= share + x[i] * density;
  }
}

void GeluTanhGradient(const float* x, int64_t count, float* delta) {
  for (int64_t i = 0; i < count; ++i) {
    const float tanh = std::tanh(kRoot2OverPi * (x[i] + kCubic * x[i] * x[i] * x[i]));
    const float slope = kRoot2OverPi * (1.0f + 3.0f * kCubic * x[i] * x[i]);
    delta[i] *= 0.5f * (1.0f + tanh) + 0.5f * x[i] * (1.0f - tanh * tanh) * slope;
  }
}

}  // namespace espalier::worker::engine
