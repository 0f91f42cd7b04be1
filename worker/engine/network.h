// Network: a stack of linear layers that learns on batches, with memory for active weights only.
//
// Shapes:      values follow the model's layout order (common/tensor/model_layout.h): for each
//              layer its weight (topology order, or row-major when dense), then its bias.
//              Activations are feature-major [features][batch_stride()].
// Memory:      4 bytes per stored value for it and for each optimizer slot; per active weight 4 for
//              the structure and 8 for its transpose (none in the first layer); one shared array as
//              long as the largest weight; batch_stride() floats per unit, and twice that for the
//              widest layer. Never rows × cols: dense gradients exist in tiles of about 1 MiB.
// Ownership:   batches are borrowed for the call; the topology is shared.
// Threading:   one caller at a time. Work is split over `threads` OpenMP threads. On machines that
//              other programs share, start with OMP_WAIT_POLICY=passive: threads that wait by
//              spinning take the processor from those they wait for.
// Determinism: the same calls give the same bits on the same processor type and thread count, and
//              without dense layers for any thread count.
// Errors:      only Create() and SetValues() fail. Batches must be well formed: labels in range,
//              1 ≤ size ≤ max_batch, stride = batch_stride(), zero padding. A diverged model shows
//              as a non-finite loss.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/backend.h"
#include "worker/engine/dropout.h"
#include "worker/engine/optimizer.h"
#include "worker/engine/spec.h"
#include "worker/engine/weight_matrix.h"

namespace espalier::worker::engine {

class Network {
 public:
  // Errors: InvalidArgument with reason NETWORK_SPEC, OPTIMIZER_PARAMETER or SHAPE_MISMATCH
  // (topology and spec disagree).
  static absl::StatusOr<std::unique_ptr<Network>> Create(
      const NetworkSpec& spec, const OptimizerSpec& optimizer,
      std::shared_ptr<const tensor::ModelTopology> topology, int64_t max_batch, int threads,
      BackendKind backend);

  // Distance in floats between the features of a batch, at least max_batch. It is an odd number of
  // cache lines, so that a part of every row spreads over the whole cache.
  int64_t batch_stride() const { return stride_; }

  // Sets all values and forgets the optimizer's state. Errors: InvalidArgument on a wrong count.
  absl::Status SetValues(std::span<const float> values);
  std::span<const float> values() const { return values_.span(); }
  // After SetValues(): optimizer state to go on from, `steps` training steps after the beginning.
  // One float (momentum) or two (Adam: all first moments, then all second) per value.
  // Errors: InvalidArgument on a wrong count.
  absl::Status SetOptimizerState(std::span<const float> state, int64_t steps) {
    return optimizer_.Resume(state, steps);
  }
  std::vector<float> optimizer_state() const { return optimizer_.state(); }

  // One step: forward, loss, backward, update. Dropout is a function of `dropout_key`, which
  // callers make anew for every step (base::StreamKey). Returns the loss before the update.
  BatchResult Train(const Batch& batch, double learning_rate, uint64_t dropout_key);

  // Forward and loss without dropout.
  BatchResult Evaluate(const Batch& batch);

  // Gradient of the mean loss with respect to every stored value, without dropout or update.
  // `gradients` has values().size() entries.
  BatchResult Gradients(const Batch& batch, std::span<float> gradients);

  // For each tensor the counts_per_tensor[i] inactive positions of largest |gradient|, where the
  // gradient is that of the mean loss over all examples of `batches` without dropout. Positions
  // with equal magnitude: the lower one. Empty for dense tensors. The inputs and deltas of all
  // batches are kept (8 · batch_stride() bytes per unit, feature and batch), then each matrix
  // gradient is computed once, tile by tile, over the concatenated batches.
  std::vector<ScoreList> GrowthCandidates(std::span<const Batch> batches,
                                          std::span<const int64_t> counts_per_tensor);

 private:
  struct Layer {
    LinearSpec spec;
    int64_t inputs = 0;
    size_t weight_tensor = 0;
    int64_t weight_offset = 0;
    int64_t bias_offset = 0;  // meaningful when spec.bias
    std::unique_ptr<WeightMatrix> weight;
    AlignedBuffer output;  // [units][stride], after activation and dropout
    DropoutMask dropout;
  };

  Network(const NetworkSpec& spec, const OptimizerSpec& optimizer,
          std::shared_ptr<const tensor::ModelTopology> topology, int64_t max_batch, int threads,
          std::unique_ptr<Backend> backend);

  absl::Status AddLayers();
  absl::Status AddWeight(Layer& layer);
  Extent ExtentOf(const Batch& batch) const;
  // Draws what `key` drops, or switches dropout off for the next passes.
  void DrawDropout(uint64_t key);
  void DisableDropout();
  // What layer `index` reads: the batch, its copy after input dropout, or the layer before.
  const float* InputOf(size_t index, const Batch& batch) const;
  void Forward(const Batch& batch);
  void ApplyInputDropout(const Batch& batch);
  BatchResult LossOf(const Batch& batch, float* delta) const;
  // Loss and backward pass after Forward(). Calls `visit`, last layer first, with the gradient of
  // the mean loss with respect to the layer's preactivation and with the layer's input. The layer's
  // values are not read after that.
  using LayerVisitor = std::function<void(size_t layer, const float* delta, const float* input)>;
  BatchResult Backward(const Batch& batch, const LayerVisitor& visit);
  // Gradients of one layer's weight and bias; `sink` gets offsets into values().
  void LayerGradients(const Layer& layer, const float* delta, const float* input, Extent extent,
                      const GradientSink& sink);
  void PreactivationGradient(const Layer& layer, Extent extent, float* delta) const;
  void UpdateTensor(int64_t offset, std::span<const float> gradient);
  // Inputs and deltas of one layer for several batches side by side, see GrowthCandidates().
  struct GrowthBuffers;
  ScoreList TopInactive(const Layer& layer, int64_t count, const GrowthBuffers& buffers);

  NetworkSpec spec_;
  std::shared_ptr<const tensor::ModelTopology> topology_;
  int64_t max_batch_;
  int64_t stride_;
  int threads_;
  std::unique_ptr<Backend> backend_;
  AlignedBuffer values_;
  Optimizer optimizer_;
  std::vector<Layer> layers_;
  DropoutMask input_dropout_;
  AlignedBuffer input_;  // copy of the batch, only with input dropout
  AlignedBuffer delta_;  // gradients of activations, of the widest layer
  AlignedBuffer previous_delta_;
  AlignedBuffer scratch_;
  AlignedBuffer bias_gradient_;
};

}  // namespace espalier::worker::engine
