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

// Sparsifiable layers get `density`, dense ones no topology.
inline std::shared_ptr<const tensor::ModelTopology> MakeModelTopology(const NetworkSpec& spec,
                                                                      double density) {
  std::vector<tensor::LinearShape> shapes;
  for (const LinearSpec& layer : spec.layers) {
    shapes.push_back({.units = layer.units, .dense = layer.dense, .bias = layer.bias});
  }
  auto layout = std::make_shared<const tensor::ModelLayout>(
      tensor::LinearStackLayout(spec.input_features, shapes).value());
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  for (const tensor::TensorSpec& tensor : *layout) {
    topologies.push_back(tensor.sparsifiable
                             ? RandomTopology(tensor.rows, tensor.cols, density, topologies.size())
                             : nullptr);
  }
  return std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(layout, std::move(topologies)).value());
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
