// Network: layers that learn on batches, with memory for active weights only.
//
// Shapes:      values follow the model's layout order (common/wire/model_spec): for each layer its
//              weight (topology order, or row-major when dense), then its bias; of a batch norm
//              scale, shift, running mean and running variance.
//              Activations are feature-major [features][batch_stride()].
// Memory:      4 bytes per stored value for it and for each optimizer slot; per active weight 4 for
//              the structure, 4 more in a convolution, and 8 for its transpose (none in the first
//              layer); one shared array as long as the largest weight; batch_stride() floats per
//              output of each layer, and twice that for the widest (four times with residual
//              layers). With activation pruning outputs that only weight gradients read take
//              (1 − share) of that and a bit per value. Never rows × cols: gradients of sparse
//              weights at all positions exist in tiles of about 1 MiB.
// Ownership:   batches are borrowed for the call; the topology is shared.
// Threading:   one caller at a time. Work is split over `threads` OpenMP threads. On machines that
//              other programs share, start with OMP_WAIT_POLICY=passive: threads that wait by
//              spinning take the processor from those they wait for.
// Determinism: the same calls give the same bits on the same processor type, for any number of
//              threads.
// Tokens:      in networks of sequences, the columns of a batch are tokens: `max_batch`, sizes,
//              labels and results count them, and a batch holds whole sequences. A dense embedding
//              has a dense gradient of the same size.
// Errors:      only Create() and SetValues() fail. Batches must be well formed: labels in range,
//              1 ≤ size ≤ max_batch, stride = batch_stride(), zero padding. A diverged model shows
//              as a non-finite loss.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/backend.h"
#include "worker/engine/dropout.h"
#include "worker/engine/layers/chain.h"
#include "worker/engine/optimizer.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

// What is asked of the gradients at a tensor's inactive positions.
struct GrowthQuery {
  int64_t count = 0;                                           // so many largest
  double threshold = std::numeric_limits<double>::infinity();  // all of at least this magnitude
  std::span<const int64_t> positions = {};                     // and these, ascending
};

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

  // Sets all values and forgets the optimizer's state and terms. Errors: InvalidArgument on a wrong
  // count.
  absl::Status SetValues(std::span<const float> values);
  std::span<const float> values() const { return values_.span(); }
  // After SetValues(): optimizer state to go on from, `steps` training steps after the beginning.
  // One float (momentum) or two (Adam: all first moments, then all second) per value.
  // Errors: InvalidArgument on a wrong count.
  absl::Status SetOptimizerState(std::span<const float> state, int64_t steps) {
    return optimizer_.Resume(state, steps);
  }
  // After SetValues(): what training adds to every gradient until the next SetValues(). Borrowed as
  // long. Errors: those of Optimizer::SetTerms().
  absl::Status SetGradientTerms(const GradientTerms& terms) { return optimizer_.SetTerms(terms); }
  std::vector<float> optimizer_state() const { return optimizer_.state(); }

  std::shared_ptr<const tensor::ModelTopology> topology() const { return topology_; }
  // Goes over to another structure of the same layout, also between two training steps: weights in
  // both keep their value and optimizer state, new ones start with 0. Activations and plans are let
  // go before new ones are made, so that this takes no more memory than Create(); values and state
  // exist twice for a moment. Errors: those of Create(); the network is then of no more use.
  absl::Status Restructure(std::shared_ptr<const tensor::ModelTopology> updated);

  // Bytes that layers store of their outputs for the backward pass.
  int64_t StoredActivationBytes() const { return layers_->ActivationBytes(); }
  // Bytes of the buffers for deltas and for outputs in use, which layers share; as many as were
  // ever needed at once.
  int64_t SharedActivationBytes() const { return workspace_.lent_bytes(); }

  // Training steps from now on leave these tensors of the layout as they are.
  void SetFrozen(std::vector<bool> tensors);

  // Training steps from now on add factor · w to the gradient of these values: ascending indices
  // into values(). The losses that are reported are without it. SetValues() ends this.
  void SetPenalty(std::vector<int64_t> values, double factor);
  // L2 norm of those values.
  double PenalizedNorm() const;

  // One step: forward, loss, backward, update; running statistics move. Dropout is a function of
  // `dropout_key`, which callers make anew for every step (base::StreamKey). Returns the loss
  // before the update.
  BatchResult Train(const Batch& batch, double learning_rate, uint64_t dropout_key);

  // Train(), and adds the gradient that it follows (of the mean loss, without weight decay) to
  // `sums`: one entry for every position of every tensor, stored or not, in layout order. Sparse
  // tensors cost a dense weight gradient more.
  BatchResult TrainAndSum(const Batch& batch, double learning_rate, uint64_t dropout_key,
                          std::span<float> sums);

  // Forward pass without dropout that only moves the running statistics, by `weight` (in (0, 1])
  // towards those of the batch, or by each layer's own momentum.
  void Calibrate(const Batch& batch, std::optional<double> weight);

  // Forward and loss without dropout, with running statistics.
  BatchResult Evaluate(const Batch& batch);

  // Forward pass as in Evaluate(), without a loss. Of each of `columns` (examples, or tokens of
  // sequences) the outputs, one after the other: probabilities where the loss is cross-entropy,
  // otherwise what the last activation gives. `outputs` has columns.size() · outputs() entries.
  void Predict(const Batch& batch, std::span<const int64_t> columns, std::span<float> outputs);
  // What the last layer gave in the last pass, [outputs()][batch_stride()]: logits, or with an
  // activation what that makes of them. Valid until the next one.
  const float* last_outputs() const { return layers_->back().output(); }
  // Outputs of the last layer.
  int64_t outputs() const { return layers_->shape().features(); }

  // Forward pass as in Evaluate(), of one example alone, so that nothing depends on which examples
  // share a batch. `sink` gets what the layer with weight `tensor` is given: `columns` inputs of
  // its matrix by `positions` (1, or the output positions of a convolution), row by row.
  using InputSink = std::function<void(const float* inputs, int64_t columns, int64_t positions)>;
  void ObserveInput(const Batch& example, size_t tensor, const InputSink& sink);

  // Gradient of the mean loss with respect to every stored value, without dropout or update, with
  // the batch's own statistics; 0 for running statistics. `gradients` has values().size() entries.
  BatchResult Gradients(const Batch& batch, std::span<float> gradients);

  // For each tensor the counts_per_tensor[i] inactive positions of largest |gradient|, where the
  // gradient is that of the mean loss over all examples of `batches` without dropout, each batch
  // with its own statistics. Positions with equal magnitude: the lower one. Empty for dense
  // tensors. The inputs and deltas of all batches are kept (8 · batch_stride() bytes per unit,
  // feature and batch), then each matrix gradient is computed once, tile by tile, over the
  // concatenated batches. `active`, unless empty: values().size() entries that become the same
  // gradient at every stored value, as Gradients() has it.
  std::vector<ScoreList> GrowthCandidates(std::span<const Batch> batches,
                                          std::span<const int64_t> counts_per_tensor,
                                          std::span<float> active = {});
  // The same gradients at all positions that any part of a tensor's query asks for.
  std::vector<ScoreList> InactiveGradients(std::span<const Batch> batches,
                                           std::span<const GrowthQuery> queries,
                                           std::span<float> active = {});

 private:
  Network(const NetworkSpec& spec, const OptimizerSpec& optimizer,
          std::shared_ptr<const tensor::ModelTopology> topology, int64_t max_batch, int threads,
          std::unique_ptr<Backend> backend);

  absl::Status AddLayers();
  Extent ExtentOf(const Batch& batch) const;
  Pass PassOver(const Batch& batch, Mode mode, uint64_t dropout_key = 0);
  // What the first layer reads: the batch, or its copy after input dropout.
  const float* InputOf(const Pass& pass, const Batch& batch);
  BatchResult LossOf(const Batch& batch, float* delta) const;
  // Forward pass, loss and backward pass.
  BatchResult Learn(const Pass& pass, const Batch& batch, const BackwardTarget& target);
  void FindFrozen();
  // Whether the value at this offset is that of a frozen tensor.
  bool IsFrozen(int64_t offset) const;
  // A step of the optimizer on values of one tensor, from `offset` on, unless it is frozen.
  void UpdateTensor(int64_t offset, std::span<const float> gradient);
  // `gradient` with the penalty's.
  std::span<const float> WithPenalty(int64_t offset, std::span<const float> gradient);
  // Inputs and deltas of one layer for several batches side by side, see GrowthCandidates().
  struct GrowthBuffers;
  ScoreList SelectInactive(const ProductLayer& layer, const GrowthQuery& query,
                           const GrowthBuffers& buffers);

  NetworkSpec spec_;
  std::shared_ptr<const tensor::ModelTopology> topology_;
  int64_t max_batch_;
  int64_t stride_;
  int threads_;
  std::unique_ptr<Backend> backend_;
  AlignedBuffer values_;
  Optimizer optimizer_;
  std::vector<int64_t> penalized_;  // see SetPenalty()
  float penalty_factor_ = 0;
  std::vector<bool> frozen_;  // see SetFrozen()
  // Where values of these tensors begin and end, ascending.
  std::vector<int64_t> frozen_begins_;
  std::vector<int64_t> frozen_ends_;
  std::vector<float> with_penalty_;  // as long as the largest weight with penalized values
  Workspace workspace_;
  std::optional<Chain> layers_;
  DropoutMask input_dropout_;
  AlignedBuffer input_;  // copy of the batch, only with input dropout
};

}  // namespace espalier::worker::engine
