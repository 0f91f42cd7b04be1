// Small random matrices, models and batches for the engine's tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <vector>

#include "common/base/rng.h"
#include "common/sparsity/random_topology.h"
#include "common/tensor/model_layout.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/kernels.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {

inline std::vector<float> RandomFloats(int64_t size, uint64_t key, double scale = 1.0) {
  base::Rng rng(key);
  std::vector<float> result(size);
  for (float& value : result) value = static_cast<float>(scale * (2.0 * rng.Uniform() - 1.0));
  return result;
}

inline std::shared_ptr<const tensor::Topology> RandomTopology(int64_t rows, int64_t cols,
                                                              double density, uint64_t key) {
  const auto count = std::llround(density * static_cast<double>(rows * cols));
  return std::make_shared<const tensor::Topology>(
      sparsity::RandomTopology(rows, cols, count, key).value());
}

// Appends the tensors of layers, named by their number, and follows the shape through them.
inline MapShape AppendTensors(const std::vector<LayerSpec>& layers, MapShape shape,
                              tensor::ModelLayout& layout) {
  const auto add = [&](std::vector<int64_t> dimensions, bool sparsifiable) {
    layout.push_back(
        tensor::CheckedTensor("tensor" + std::to_string(layout.size()), std::move(dimensions))
            .value());
    layout.back().sparsifiable = sparsifiable;
  };
  for (const LayerSpec& layer : layers) {
    const auto slide = [&](int64_t size) {
      return (size + 2 * layer.padding - layer.kernel) / layer.stride + 1;
    };
    if (layer.kind == LayerKind::kLinear) {
      add({layer.units, shape.features()}, !layer.dense);
      if (layer.bias) add({layer.units}, false);
      shape = {.channels = layer.units};
    } else if (layer.kind == LayerKind::kConv) {
      add({layer.units, shape.channels, layer.kernel, layer.kernel}, !layer.dense);
      if (layer.standardize) add({layer.units}, false);
      if (layer.bias) add({layer.units}, false);
      shape = {layer.units, slide(shape.height), slide(shape.width)};
    } else if (layer.kind == LayerKind::kBatchNorm) {
      for (int i = 0; i < 4; ++i) add({shape.channels}, false);
    } else if (layer.kind == LayerKind::kResidual) {
      const MapShape input = shape;
      shape = AppendTensors(layer.body, input, layout);
      AppendTensors(layer.shortcut, input, layout);
    } else if (layer.kind == LayerKind::kGlobalAveragePool) {
      shape = {.channels = shape.channels};
    } else if (layer.kind == LayerKind::kFlatten) {
      shape = {.channels = shape.features()};
    } else {
      shape = {shape.channels, slide(shape.height), slide(shape.width)};
    }
  }
  return shape;
}

// Sparsifiable layers get `density`, dense ones no topology.
inline std::shared_ptr<const tensor::ModelTopology> MakeModelTopology(const NetworkSpec& spec,
                                                                      double density) {
  const MapShape input =
      spec.input_image.channels > 0 ? spec.input_image : MapShape{.channels = spec.input_features};
  auto layout = std::make_shared<tensor::ModelLayout>();
  AppendTensors(spec.layers, input, *layout);
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  for (const tensor::TensorSpec& tensor : *layout) {
    topologies.push_back(tensor.sparsifiable
                             ? RandomTopology(tensor.rows, tensor.cols, density, topologies.size())
                             : nullptr);
  }
  return std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(layout, std::move(topologies)).value());
}

// Kernels that this processor can run.
inline std::vector<Isa> SupportedIsas() {
  std::vector<Isa> isas = {Isa::kPortable};
  if (DetectIsa() >= Isa::kAvx2) isas.push_back(Isa::kAvx2);
  if (DetectIsa() >= Isa::kAvx512) isas.push_back(Isa::kAvx512);
  return isas;
}

inline std::vector<double> Doubles(const std::vector<float>& values) {
  return {values.begin(), values.end()};
}

// Owns what a Batch borrows. Features are laid out for `stride`, labels drawn below `classes`.
struct OwnedBatch {
  OwnedBatch(int64_t features, int64_t classes, int64_t size, int64_t stride, uint64_t key)
      : data(features * stride), batch{data.data(), nullptr, size, stride} {
    const std::vector<float> values = RandomFloats(features * size, key);
    for (int64_t i = 0; i < features * size; ++i) {
      data.data()[i / size * stride + i % size] = values[i];
    }
    base::Rng rng(key + 1);
    for (int64_t b = 0; b < size; ++b) {
      labels.push_back(static_cast<int32_t>(rng.Below(static_cast<uint64_t>(classes))));
    }
    batch.labels = labels.data();
  }

  AlignedBuffer data;
  std::vector<int32_t> labels;
  Batch batch;
};

}  // namespace espalier::worker::engine
