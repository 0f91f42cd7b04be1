// Layers of the engine whose weights are tensors of a recommender.
//
// Shapes:      matrices are feature-major [features][stride()], one column per example.
// Memory:      the layers' outputs; deltas while they are lent.
// Ownership:   the topology is borrowed.
// Threading:   one caller at a time; products use `threads` OpenMP threads.
// Determinism: the same bits for any number of threads.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/tensor/model.h"
#include "worker/engine/backend.h"
#include "worker/engine/layers/chain.h"
#include "worker/recommender/row_parameters.h"

namespace espalier::worker::recommender {

class Layers {
 public:
  // Layers take tensors from `first_tensor` on. Batches have at most `max_columns` columns.
  Layers(const tensor::ModelTopology& topology, size_t first_tensor, int64_t max_columns,
         int threads);
  Layers(const Layers&) = delete;
  Layers& operator=(const Layers&) = delete;

  // Adds a chain: layers one after the other on `inputs` features. Before the first pass.
  void Add(const std::vector<engine::LayerSpec>& specs, int64_t inputs);
  // The first error of Add(): NETWORK_SPEC or SHAPE_MISMATCH. Without one, passes may begin.
  const absl::Status& status() const { return status_; }
  int64_t stride() const { return context_.stride; }

  // A pass with the values of `tensors`, which are all of the model's; with dropout if there is a
  // key.
  static engine::Pass PassOf(std::span<const RowTensor> tensors, engine::Extent extent,
                             const uint64_t* dropout_key);
  // The output of a chain, valid until its next pass.
  const float* Forward(size_t chain, const engine::Pass& pass, const float* x);
  // After Forward() with the same arguments. `delta`, the gradient of the output, changes and is
  // lent by workspace(); `dx` gets that of x.
  void Backward(size_t chain, const engine::Pass& pass, const float* x, float* delta, float* dx,
                const engine::BackwardTarget& target) {
    chains_[chain].Backward(pass, x, delta, dx, target);
  }
  // Lends deltas as large as the widest matrix of any chain.
  engine::Workspace& workspace() { return workspace_; }

 private:
  std::unique_ptr<engine::Backend> backend_;
  engine::Workspace workspace_;
  engine::BuildContext context_;
  std::vector<engine::Chain> chains_;
  absl::Status status_;
};

// Hands the gradients of layers to a sink while a backward pass gives them, in groups of rows.
class LayerGradients {
 public:
  // All borrowed. `stride` is that of the layers.
  LayerGradients(const tensor::ModelTopology& topology, std::span<const RowTensor> tensors,
                 int64_t stride, RowSink& sink, int threads)
      : topology_(topology), tensors_(tensors), stride_(stride), sink_(sink), threads_(threads) {}

  // For passes with this extent. It borrows this object.
  engine::BackwardTarget Target(engine::Extent extent);

 private:
  void Stored(int64_t offset, std::span<const float> gradient);
  void All(const engine::ProductLayer& layer, const float* delta, const float* input,
           int64_t width);

  const tensor::ModelTopology& topology_;
  std::span<const RowTensor> tensors_;
  int64_t stride_;
  RowSink& sink_;
  int threads_;
  int64_t next_row_ = 0;        // of the tensor whose gradient is on its way
  std::vector<float> pending_;  // of the rows from next_row_ on
  std::vector<float> band_;     // whole rows of a gradient at all positions
};

}  // namespace espalier::worker::recommender
