// A network written for clarity, templated on the number type: the oracle for Network. It shares
// nothing with it but the naive products of worker/engine/reference. No dropout.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "common/tensor/model.h"
#include "worker/engine/reference/reference_math.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

template <typename T>
class ReferenceNetwork {
 public:
  ReferenceNetwork(NetworkSpec spec, std::shared_ptr<const tensor::ModelTopology> topology)
      : spec_(std::move(spec)), topology_(std::move(topology)) {
    for (size_t tensor = 0; tensor < topology_->num_tensors(); ++tensor) {
      const tensor::TensorSpec& t = topology_->layout()[tensor];
      structures_.push_back(topology_->is_sparse(tensor)
                                ? topology_->topology(tensor)
                                : tensor::Topology::Full(t.rows, t.cols).value());
    }
  }

  // Mean loss over the batch.
  T Loss(const std::vector<T>& values, const Batch& batch) {
    Forward(values, batch);
    T sum = 0;
    for (int64_t b = 0; b < batch.size; ++b) {
      if (spec_.loss == Loss::kMeanSquaredError) {
        for (int64_t row = 0; row < classes(); ++row) sum += Square(Error(batch, row, b)) / 2;
      } else if (spec_.loss == Loss::kBinaryCrossEntropy) {
        for (int64_t row = 0; row < classes(); ++row) {
          const T output = Output(batch, row, b);
          sum -= std::log(row == batch.labels[b] ? output : 1 - output);
        }
      } else {
        sum -= std::log(Probability(batch, batch.labels[b], b));
      }
    }
    return sum / static_cast<T>(batch.size);
  }

  // Gradient of Loss() with respect to the values, in layout order.
  std::vector<T> Gradients(const std::vector<T>& values, const Batch& batch) {
    Forward(values, batch);
    std::vector<T> gradients(values.size());
    std::vector<T> delta = OutputGradient(batch);
    size_t tensor = topology_->num_tensors();
    for (size_t i = spec_.layers.size(); i-- > 0;) {
      const LayerSpec& layer = spec_.layers[i];
      if (layer.bias) {
        --tensor;
        for (int64_t j = 0; j < layer.units * batch.size; ++j) {
          gradients[topology_->offset(tensor) + j / batch.size] += delta[j];
        }
      }
      --tensor;
      const int64_t offset = topology_->offset(tensor);
      reference::SampledProduct(structures_[tensor], delta.data(), activations_[i].data(),
                                batch.size, batch.size, gradients.data() + offset);
      if (i == 0) break;
      std::vector<T> input_delta(activations_[i].size());
      reference::MultiplyTransposed(structures_[tensor], values.data() + offset, delta.data(),
                                    batch.size, batch.size, input_delta.data());
      delta = std::move(input_delta);
      for (size_t j = 0; j < delta.size(); ++j) {
        delta[j] *= Derivative(spec_.layers[i - 1].activation, activations_[i][j]);
      }
    }
    return gradients;
  }

 private:
  static T Square(T value) { return value * value; }
  int64_t classes() const { return spec_.layers.back().units; }

  static T Activate(Activation activation, T z) {
    switch (activation) {
      case Activation::kRelu:
        return std::max(z, T{0});
      case Activation::kSigmoid:
        return 1 / (1 + std::exp(-z));
      case Activation::kTanh:
        return std::tanh(z);
      default:
        return z;
    }
  }

  static T Derivative(Activation activation, T output) {
    switch (activation) {
      case Activation::kRelu:
        return output > 0 ? 1 : 0;
      case Activation::kSigmoid:
        return output * (1 - output);
      case Activation::kTanh:
        return 1 - output * output;
      default:
        return 1;
    }
  }

  // activations_[0] is the input, activations_[i + 1] the output of layer i;
  // [features][batch.size].
  void Forward(const std::vector<T>& values, const Batch& batch) {
    activations_.assign(1, {});
    for (int64_t f = 0; f < spec_.input_features; ++f) {
      for (int64_t b = 0; b < batch.size; ++b) {
        activations_[0].push_back(batch.features[f * batch.stride + b]);
      }
    }
    size_t tensor = 0;
    for (const LayerSpec& layer : spec_.layers) {
      std::vector<T> y(layer.units * batch.size);
      reference::Multiply(structures_[tensor], values.data() + topology_->offset(tensor),
                          activations_.back().data(), batch.size, batch.size, y.data());
      ++tensor;
      for (int64_t j = 0; layer.bias && j < layer.units * batch.size; ++j) {
        y[j] += values[topology_->offset(tensor) + j / batch.size];
      }
      tensor += layer.bias ? 1 : 0;
      for (T& value : y) value = Activate(layer.activation, value);
      activations_.push_back(std::move(y));
    }
  }

  T Output(const Batch& batch, int64_t row, int64_t b) const {
    if (spec_.layers.back().activation == Activation::kSoftmax) return Probability(batch, row, b);
    return activations_.back()[row * batch.size + b];
  }

  // Softmax of the last layer, whose softmax activation Forward() leaves out.
  T Probability(const Batch& batch, int64_t row, int64_t b) const {
    const std::vector<T>& z = activations_.back();
    T sum = 0;
    for (int64_t other = 0; other < classes(); ++other) {
      sum += std::exp(z[other * batch.size + b] - z[row * batch.size + b]);
    }
    return 1 / sum;
  }

  T Error(const Batch& batch, int64_t row, int64_t b) const {
    return Output(batch, row, b) - (row == batch.labels[b] ? 1 : 0);
  }

  // Gradient of the mean loss with respect to the last layer's preactivation.
  std::vector<T> OutputGradient(const Batch& batch) const {
    std::vector<T> delta(classes() * batch.size);
    const Activation activation = spec_.layers.back().activation;
    for (int64_t b = 0; b < batch.size; ++b) {
      for (int64_t row = 0; row < classes(); ++row) {
        T& d = delta[row * batch.size + b];
        if (spec_.loss == Loss::kCrossEntropy) {
          d = Probability(batch, row, b) - (row == batch.labels[b] ? 1 : 0);
        } else if (spec_.loss == Loss::kBinaryCrossEntropy) {
          d = Error(batch, row, b);
        } else if (activation == Activation::kSoftmax) {
          for (int64_t other = 0; other < classes(); ++other) {
            d += Error(batch, other, b) * Probability(batch, other, b) *
                 ((other == row ? 1 : 0) - Probability(batch, row, b));
          }
        } else {
          d = Error(batch, row, b) * Derivative(activation, Output(batch, row, b));
        }
        d /= static_cast<T>(batch.size);
      }
    }
    return delta;
  }

  NetworkSpec spec_;
  std::shared_ptr<const tensor::ModelTopology> topology_;
  std::vector<tensor::Topology> structures_;
  std::vector<std::vector<T>> activations_;
};

}  // namespace espalier::worker::engine
