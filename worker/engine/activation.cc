#include "worker/engine/activation.h"

#include <algorithm>
#include <cmath>

#include "worker/engine/multiversion.h"

namespace espalier::worker::engine {
namespace {

float Sigmoid(float z) {
  // exp of a negative number cannot overflow.
  const float e = std::exp(-std::abs(z));
  return z >= 0 ? 1.0F / (1.0F + e) : e / (1.0F + e);
}

ESPALIER_MULTIVERSION
void AddBias(const float* bias, float* y, int64_t stride, int64_t width, RowRange rows,
             int64_t positions) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float shift = bias[row / positions];
    float* out = y + row * stride;
    for (int64_t b = 0; b < width; ++b) out[b] += shift;
  }
}

ESPALIER_MULTIVERSION
void AddBiasRelu(const float* bias, float* y, int64_t stride, int64_t width, RowRange rows,
                 int64_t positions) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float shift = bias == nullptr ? 0.0F : bias[row / positions];
    float* out = y + row * stride;
    for (int64_t b = 0; b < width; ++b) {
      const float z = out[b] + shift;
      // Written so that a NaN stays one.
      out[b] = z < 0.0F ? 0.0F : z;
    }
  }
}

ESPALIER_MULTIVERSION
void ReluGradient(const float* output, float* delta, float scale, int64_t stride, int64_t width,
                  RowRange rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* out = output + row * stride;
    float* d = delta + row * stride;
    // A dropped output is 0, so this covers the mask as well.
    for (int64_t b = 0; b < width; ++b) d[b] = out[b] > 0.0F ? d[b] * scale : 0.0F;
  }
}

}  // namespace

void BiasActivate(Activation activation, const float* bias, float* y, int64_t stride, int64_t width,
                  RowRange rows, int64_t positions) {
  if (activation == Activation::kRelu) {
    AddBiasRelu(bias, y, stride, width, rows, positions);
    return;
  }
  if (bias != nullptr) AddBias(bias, y, stride, width, rows, positions);
  if (activation != Activation::kSigmoid && activation != Activation::kTanh) return;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float* out = y + row * stride;
    for (int64_t b = 0; b < width; ++b) {
      out[b] = activation == Activation::kTanh ? std::tanh(out[b]) : Sigmoid(out[b]);
    }
  }
}

void Softmax(float* y, int64_t stride, int64_t width, int64_t rows) {
  for (int64_t b = 0; b < width; ++b) {
    float largest = y[b];
    for (int64_t row = 1; row < rows; ++row) largest = std::max(largest, y[row * stride + b]);
    float sum = 0;
    for (int64_t row = 0; row < rows; ++row) {
      float& value = y[row * stride + b];
      value = std::exp(value - largest);
      sum += value;
    }
    for (int64_t row = 0; row < rows; ++row) y[row * stride + b] /= sum;
  }
}

void ActivationGradient(Activation activation, const DropoutMask& dropout, const float* output,
                        float* delta, int64_t stride, int64_t width, RowRange rows) {
  const float scale = dropout.scale();
  if (activation == Activation::kRelu) {
    ReluGradient(output, delta, scale, stride, width, rows);
    return;
  }
  dropout.Apply(delta, stride, width, rows);
  if (activation == Activation::kLinear) return;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    for (int64_t b = 0; b < width; ++b) {
      const float out = output[row * stride + b] / scale;
      delta[row * stride + b] *=
          activation == Activation::kTanh ? 1.0F - out * out : out * (1.0F - out);
    }
  }
}

void SoftmaxGradient(const float* output, float* delta, int64_t stride, int64_t width,
                     int64_t rows) {
  for (int64_t b = 0; b < width; ++b) {
    float dot = 0;
    for (int64_t row = 0; row < rows; ++row) {
      dot += delta[row * stride + b] * output[row * stride + b];
    }
    for (int64_t row = 0; row < rows; ++row) {
      float& value = delta[row * stride + b];
      value = output[row * stride + b] * (value - dot);
    }
  }
}

ESPALIER_MULTIVERSION
void BiasGradient(const float* delta, int64_t stride, int64_t width, int64_t positions,
                  RowRange channels, float* gradient) {
  for (int64_t channel = channels.begin; channel < channels.end; ++channel) {
    // kLanes partial sums: a fixed order that vectorises.
    float lanes[kLanes] = {};
    for (int64_t row = channel * positions; row < (channel + 1) * positions; ++row) {
      for (int64_t b = 0; b < width; b += kLanes) {
        for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += delta[row * stride + b + lane];
      }
    }
    float sum = 0;
    for (const float lane : lanes) sum += lane;
    gradient[channel] = sum;
  }
}

ESPALIER_MULTIVERSION
void AddRows(const float* x, float* y, int64_t stride, int64_t width, RowRange rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    for (int64_t b = 0; b < width; ++b) y[row * stride + b] += x[row * stride + b];
  }
}

void CopyRows(const float* x, float* y, int64_t stride, int64_t width, RowRange rows) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    std::copy_n(x + row * stride, width, y + row * stride);
  }
}

}  // namespace espalier::worker::engine
