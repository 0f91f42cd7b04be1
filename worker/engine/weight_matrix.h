// WeightMatrix: the products of one linear layer, for sparse and dense weights alike.
//
// Shapes:      W is outputs × inputs; activations feature-major [features][stride].
// Memory:      sparse: the transposed structure and a permutation (8 bytes per active weight);
// dense:
//              nothing. Callers lend scratch(), which layers of a network share.
// Threading:   one caller at a time; products use the backend's threads.
#pragma once

#include <functional>
#include <memory>
#include <span>

#include "common/tensor/topology.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/backend.h"

namespace espalier::worker::engine {

// Examples of a batch: `size` real ones, padded with zeros to `width`, a multiple of kLanes.
struct Extent {
  int64_t size = 0;
  int64_t width = 0;
};

// Receives consecutive pieces of a gradient: entries [first, first + gradient.size()) of a tensor.
// What it is given may lie in scratch memory.
using GradientSink = std::function<void(int64_t first, std::span<const float> gradient)>;

class WeightMatrix {
 public:
  virtual ~WeightMatrix() = default;

  // Floats of scratch memory that InputGradient() and WeightGradient() need.
  virtual int64_t scratch() const = 0;
  // Y = W · X.
  virtual void Forward(const float* values, const float* x, Extent extent, float* y) = 0;
  // dX = Wᵀ · dY.
  virtual void InputGradient(const float* values, const float* dy, Extent extent, float* dx,
                             float* scratch) = 0;
  // Gradient at the stored positions. `sink` may change the values: they are not read any more.
  virtual void WeightGradient(const float* dy, const float* x, Extent extent, float* scratch,
                              const GradientSink& sink) = 0;
};

// `input_gradient`: whether InputGradient() will be called; a first layer saves the memory.
absl::StatusOr<std::unique_ptr<WeightMatrix>> MakeSparseMatrix(
    Backend& backend, std::shared_ptr<const tensor::Topology> topology, int64_t stride,
    bool input_gradient, int threads);

// `max_extent` is the size that products are planned for; others are planned when they occur.
absl::StatusOr<std::unique_ptr<WeightMatrix>> MakeDenseMatrix(Backend& backend, int64_t outputs,
                                                              int64_t inputs, int64_t stride,
                                                              bool input_gradient,
                                                              Extent max_extent);

}  // namespace espalier::worker::engine
