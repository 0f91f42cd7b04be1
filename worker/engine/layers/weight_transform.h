// WeightTransform: what stands in front of a product, between the weights that are stored, trained
// and sent, and the effective ones that the input is multiplied by.
//
// Shapes:      there is one effective weight for each stored one, in the same order: that of the
//              structure, or row by row where all are stored. A transform may have tensors of its
//              own, dense ones that come right after the weight in the layout; `own` points to
//              their values, one tensor after the other.
// Ownership:   a transform keeps the effective weights; values and gradients are borrowed.
// Threading:   one caller at a time. Determinism: the same bits for any number of threads.
//
// How others fit:
// - A low-rank update W + U · V of a weight that has learned already: own tensors are U, rows ×
//   rank, and V, rank × columns. Forward() adds the product at the stored positions; with the
//   gradient G there, U gets G · Vᵀ and V Uᵀ · G. A product of two factors alone is no transform:
//   it is two layers.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/tensor/topology.h"
#include "worker/engine/conv_shape.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

class WeightTransform {
 public:
  virtual ~WeightTransform() = default;

  struct TensorShape {
    int64_t rows = 0;
    int64_t cols = 0;
  };
  virtual std::vector<TensorShape> own_tensors() const = 0;

  // The effective weights, valid until the next call.
  virtual const float* Forward(const float* stored, const float* own) = 0;
  // What the last Forward() returned.
  virtual const float* effective() const = 0;
  // After Forward() with the same arguments: turns `gradient`, that of the effective weights, into
  // that of the stored ones, and writes that of the own tensors.
  virtual void Backward(const float* stored, const float* own, std::span<float> gradient,
                        std::span<float> own_gradient) const = 0;
  // The same for the gradient of one row at all its positions, stored or not; at the others it
  // becomes that of a weight that would be stored there, as far as the stored ones stay as they
  // are. Only convolutions ask for it: gradients of matrices come in tiles of parts of rows.
  virtual void BackwardAll(int64_t row, const float* stored, const float* own,
                           std::span<float> gradient) const = 0;
};

// The transform that `spec` asks for, of a weight of `shape` with that structure (null: all weights
// are stored); null when the stored weights are multiplied as they are.
std::unique_ptr<WeightTransform> MakeWeightTransform(
    const LayerSpec& spec, std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape,
    int threads);

}  // namespace espalier::worker::engine
