// WeightMatrix: the products of one layer with weights, linear or convolution, sparse or dense.
//
// Shapes:      W is outputs × inputs, of a convolution output channels × (input channels · window);
//              activations feature-major [features][stride].
// Memory:      sparse: the transposed structure and a permutation (8 bytes per active weight);
//              dense: nothing. Callers lend scratch(), which layers of a network share.
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

// Receives a tile of a gradient: rows × cols from position (row, col) on, row-major.
struct GradientTile {
  int64_t row = 0;
  int64_t col = 0;
  int64_t rows = 0;
  int64_t cols = 0;
  std::span<const float> values;
};
using TileSink = std::function<void(const GradientTile&)>;

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
  // Gradient at all positions, stored or not, in tiles of at most about 1 MiB that follow each
  // other row by row, over `width` examples at distance `stride`: not that of the other products.
  // Sparse weights only.
  virtual void FullGradient(const float* dy, const float* x, int64_t stride, int64_t width,
                            const TileSink& sink) = 0;
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

// The same for convolutions.
absl::StatusOr<std::unique_ptr<WeightMatrix>> MakeSparseConvolution(
    Backend& backend, std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape,
    int64_t stride, bool input_gradient);
absl::StatusOr<std::unique_ptr<WeightMatrix>> MakeDenseConvolution(Backend& backend,
                                                                   const ConvShape& shape,
                                                                   int64_t stride,
                                                                   bool input_gradient,
                                                                   Extent max_extent);

}  // namespace espalier::worker::engine
