// The loss of a network of any layers in double, written for clarity: the oracle for Network where
// ReferenceNetwork, which knows linear layers only, does not reach. Gradients come from finite
// differences. Batch norms use the statistics of the batch. No dropout.
#pragma once

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "common/tensor/model.h"
#include "worker/engine/reference/reference_math.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

class ReferenceModel {
 public:
  ReferenceModel(NetworkSpec spec, std::shared_ptr<const tensor::ModelTopology> topology)
      : spec_(std::move(spec)), topology_(std::move(topology)) {}

  // Mean cross-entropy over the batch, whose columns [0, size) alone are read.
  double Loss(const std::vector<double>& values, const Batch& batch) {
    values_ = &values;
    size_ = batch.size;
    tensor_ = 0;
    Map map = {.shape = spec_.input_image, .data = {}};
    if (map.shape.channels == 0) map.shape = {.channels = spec_.input_features};
    for (int64_t f = 0; f < spec_.input_features; ++f) {
      for (int64_t b = 0; b < size_; ++b) {
        map.data.push_back(batch.features[f * batch.stride + b]);
      }
    }
    map = Through(spec_.layers, std::move(map));
    double loss = 0;
    for (int64_t b = 0; b < size_; ++b) {
      double sum = 0;
      for (int64_t c = 0; c < map.shape.channels; ++c) sum += std::exp(map.data[c * size_ + b]);
      loss += std::log(sum) - map.data[batch.labels[b] * size_ + b];
    }
    return loss / static_cast<double>(size_);
  }

  // Central differences of Loss() at every value.
  std::vector<double> Gradients(std::vector<double> values, const Batch& batch) {
    constexpr double kStep = 1e-6;
    std::vector<double> gradients;
    for (double& value : values) {
      const double before = value;
      value = before + kStep;
      const double above = Loss(values, batch);
      value = before - kStep;
      const double below = Loss(values, batch);
      value = before;
      gradients.push_back((above - below) / (2 * kStep));
    }
    return gradients;
  }

 private:
  // [features][size_]
  struct Map {
    MapShape shape;
    std::vector<double> data;
  };

  static double Activate(Activation activation, double z) {
    switch (activation) {
      case Activation::kRelu:
        return std::max(z, 0.0);
      case Activation::kSigmoid:
        return 1 / (1 + std::exp(-z));
      case Activation::kTanh:
        return std::tanh(z);
      default:
        return z;
    }
  }

  Map Through(const std::vector<LayerSpec>& layers, Map map) {
    for (const LayerSpec& layer : layers) map = Apply(layer, map);
    return map;
  }

  Map Apply(const LayerSpec& layer, const Map& in) {
    if (layer.kind == LayerKind::kFlatten) {
      return {{.channels = in.shape.features()}, in.data};
    }
    if (layer.kind == LayerKind::kBatchNorm) return Normalize(layer, in);
    if (layer.kind == LayerKind::kMaxPool || layer.kind == LayerKind::kAveragePool) {
      return Pool(layer, layer.kernel, layer.kernel, layer.stride, in);
    }
    if (layer.kind == LayerKind::kGlobalAveragePool) {
      return Pool(layer, in.shape.height, in.shape.width, 1, in);
    }
    if (layer.kind == LayerKind::kResidual) return Add(layer, in);
    return Product(layer, in);
  }

  const double* NextTensor() { return values_->data() + topology_->offset(tensor_++); }

  Map Product(const LayerSpec& layer, const Map& in) {
    const bool linear = layer.kind == LayerKind::kLinear;
    const ConvShape shape = {.in_channels = linear ? in.shape.features() : in.shape.channels,
                             .in_height = linear ? 1 : in.shape.height,
                             .in_width = linear ? 1 : in.shape.width,
                             .out_channels = layer.units,
                             .kernel = layer.kernel,
                             .stride = layer.stride,
                             .padding = layer.padding};
    const tensor::Topology structure =
        topology_->is_sparse(tensor_)
            ? topology_->topology(tensor_)
            : tensor::Topology::Full(shape.out_channels, shape.cols()).value();
    Map out = {{layer.units, shape.out_height(), shape.out_width()}, {}};
    out.data.resize(out.shape.features() * size_);
    const double* stored = NextTensor();
    std::vector<double> weights(stored, stored + structure.nnz());
    if (layer.standardize) Standardize(structure, NextTensor(), weights);
    reference::Convolve(structure, shape, weights.data(), in.data.data(), size_, size_,
                        out.data.data());
    const double* bias = layer.bias ? NextTensor() : nullptr;
    for (size_t i = 0; i < out.data.size(); ++i) {
      const size_t channel = i / (out.shape.positions() * size_);
      out.data[i] = Activate(layer.activation, out.data[i] + (bias ? bias[channel] : 0));
    }
    return out;
  }

  static void Standardize(const tensor::Topology& structure, const double* scale,
                          std::vector<double>& weights) {
    for (int64_t c = 0; c < structure.rows(); ++c) {
      const int64_t begin = structure.row_offsets()[c];
      const int64_t end = structure.row_offsets()[c + 1];
      const auto m = static_cast<double>(end - begin);
      double mean = 0;
      double variance = 0;
      for (int64_t k = begin; k < end; ++k) mean += weights[k] / m;
      for (int64_t k = begin; k < end; ++k) variance += std::pow(weights[k] - mean, 2) / m;
      for (int64_t k = begin; k < end; ++k) {
        weights[k] =
            scale[c] * (end - begin == 1 ? weights[k]
                                         : (weights[k] - mean) / std::sqrt(m * (variance + 1e-10)));
      }
    }
  }

  Map Normalize(const LayerSpec& layer, const Map& in) {
    const double* scale = NextTensor();
    const double* shift = NextTensor();
    tensor_ += 2;  // running statistics
    Map out = in;
    const int64_t n = in.shape.positions() * size_;
    for (int64_t c = 0; c < in.shape.channels; ++c) {
      const double* x = in.data.data() + c * n;
      double mean = 0;
      double variance = 0;
      for (int64_t i = 0; i < n; ++i) mean += x[i] / static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i) variance += std::pow(x[i] - mean, 2) / static_cast<double>(n);
      for (int64_t i = 0; i < n; ++i) {
        const double z = (x[i] - mean) / std::sqrt(variance + layer.epsilon) * scale[c] + shift[c];
        out.data[c * n + i] = Activate(layer.activation, z);
      }
    }
    return out;
  }

  Map Pool(const LayerSpec& layer, int64_t height, int64_t width, int64_t stride, const Map& in) {
    Map out = {{in.shape.channels, (in.shape.height - height) / stride + 1,
                (in.shape.width - width) / stride + 1},
               {}};
    for (int64_t f = 0; f < out.shape.features(); ++f) {
      const int64_t c = f / out.shape.positions();
      const int64_t row = f % out.shape.positions() / out.shape.width * stride;
      const int64_t col = f % out.shape.width * stride;
      for (int64_t b = 0; b < size_; ++b) {
        double largest = -INFINITY;
        double sum = 0;
        for (int64_t i = row; i < row + height; ++i) {
          for (int64_t j = col; j < col + width; ++j) {
            const double x = in.data[((c * in.shape.height + i) * in.shape.width + j) * size_ + b];
            largest = std::max(largest, x);
            sum += x;
          }
        }
        const bool max = layer.kind == LayerKind::kMaxPool;
        out.data.push_back(max ? largest : sum / static_cast<double>(height * width));
      }
    }
    return out;
  }

  Map Add(const LayerSpec& layer, const Map& in) {
    Map body = Through(layer.body, in);
    const Map shortcut = Through(layer.shortcut, in);
    for (size_t i = 0; i < body.data.size(); ++i) {
      body.data[i] = Activate(layer.activation, body.data[i] + shortcut.data[i]);
    }
    return body;
  }

  NetworkSpec spec_;
  std::shared_ptr<const tensor::ModelTopology> topology_;
  const std::vector<double>* values_ = nullptr;
  int64_t size_ = 0;
  size_t tensor_ = 0;
};

}  // namespace espalier::worker::engine
