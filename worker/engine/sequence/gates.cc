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

void Gelu(int64_t count, float* x) {
  constexpr float kInverseRoot2 = 0.70710678118654752f;
  for (int64_t i = 0; i < count; ++i) x[i] = 0.5f * x[i] * (1.0f + std::erf(x[i] * kInverseRoot2));
}

void GeluTanh(int64_t count, float* x) {
  constexpr float kRoot = 0.79788456080286536f;  // √(2/π)
  for (int64_t i = 0; i < count; ++i) {
    const float inner = kRoot * (x[i] + 0.044715f * x[i] * x[i] * x[i]);
    x[i] = 0.5f * x[i] * (1.0f + std::tanh(inner));
  }
}

}  // namespace espalier::worker::engine
