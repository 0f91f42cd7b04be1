// Layer: one node of a network; and what the layers of a network share.
//
// Shapes:      activations are feature-major [features][stride], the features of an image channel
//              by channel and row by row. Of a batch, `size` columns count, and `width` are
//              computed. Columns [size, width) of activations may hold anything finite; those of
//              deltas are zero, which every Backward() preserves.
// Memory:      a layer owns its output, or between the passes keeps of it only what pruning leaves
//              (pruned_output.h) and is lent a buffer while it is in use; deltas are lent by the
//              Workspace too. Lent buffers are as large as the widest activations.
// Threading:   one caller at a time.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/tensor/model.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/backend.h"
#include "worker/engine/dropout.h"
#include "worker/engine/layers/pruned_output.h"
#include "worker/engine/spec.h"
#include "worker/engine/weight_matrix.h"

namespace espalier::worker::engine {

// kTrain:     dropout, statistics of the batch, running statistics move.
// kGradient:  statistics of the batch, nothing else changes.
// kCalibrate: statistics of the batch, running statistics move.
// kEvaluate:  running statistics.
enum class Mode { kTrain, kGradient, kCalibrate, kEvaluate };

class ProductLayer;

// Called with each layer that has weights, and its input, before it is computed.
using InputObserver = std::function<void(const ProductLayer& layer, const float* input)>;

// What a pass through all layers is given.
struct Pass {
  Mode mode = Mode::kEvaluate;
  Extent extent;
  uint64_t dropout_key = 0;
  float* values = nullptr;                        // of the whole model
  std::optional<double> momentum = std::nullopt;  // of running statistics, instead of the layers'
  const InputObserver* observer = nullptr;
};

// Buffers that layers share during one pass.
class Workspace {
 public:
  void NeedScratch(int64_t floats) { scratch_floats_ = std::max(scratch_floats_, floats); }
  void NeedVector(int64_t floats) { vector_floats_ = std::max(vector_floats_, floats); }
  void NeedDelta(int64_t floats) { delta_floats_ = std::max(delta_floats_, floats); }
  // After all needs are known.
  void Allocate() {
    scratch_ = AlignedBuffer(scratch_floats_);
    vector_ = AlignedBuffer(vector_floats_);
  }

  float* scratch() { return scratch_.data(); }
  // Room for a gradient of biases, or of any vector of a layer.
  std::span<float> vector() { return vector_.span(); }

  // A buffer for deltas or activations, given back at the end of the scope.
  class Lease {
   public:
    explicit Lease(Workspace& workspace);
    ~Lease() { workspace_.free_.push_back(index_); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    float* data() { return workspace_.deltas_[index_].data(); }

   private:
    Workspace& workspace_;
    size_t index_;
  };

  // Of all buffers that were lent so far.
  int64_t lent_bytes() const {
    return static_cast<int64_t>(deltas_.size() * sizeof(float)) * delta_floats_;
  }

 private:
  int64_t scratch_floats_ = 0;
  int64_t vector_floats_ = 0;
  int64_t delta_floats_ = 0;
  AlignedBuffer scratch_;
  AlignedBuffer vector_;
  std::vector<AlignedBuffer> deltas_;
  std::vector<size_t> free_;
};

class Embedding;

// What layers are built from. Tensors are taken in layout order.
struct BuildContext {
  const tensor::ModelTopology& topology;
  Backend& backend;
  Workspace& workspace;
  int64_t max_batch;
  int64_t stride;
  int threads;
  DropoutScaling dropout_scaling;
  double activation_pruning = 0;  // share of stored outputs that is dropped; 0: nothing is pruned
  int64_t sequence = 1;
  size_t next_tensor = 0;
  Embedding* embedding = nullptr;  // once there is one
};

// Where the results of a backward pass go; either may be empty.
struct BackwardTarget {
  // Gradients of stored values, by offset in the model, each call of one tensor. It may change the values at once: a layer
  // does not read its values after it has given their gradient.
  GradientSink gradients = {};
  // Offsets of tensors whose gradients nobody wants, ascending. Layers may give them all the same.
  std::span<const int64_t> unwanted = {};
  // For layers with weights: the gradient with respect to the preactivation, and the input.
  std::function<void(const ProductLayer& layer, const float* delta, const float* input)> capture =
      {};

  bool Wants(int64_t offset) const {
    return gradients && !std::binary_search(unwanted.begin(), unwanted.end(), offset);
  }
};

// What a backward pass reads of a layer's output: nothing, in weight gradients only (there pruned
// values will do), or all of it.
enum class OutputUse { kNone, kWeightGradient, kExact };

class Layer {
 public:
  virtual ~Layer() = default;

  const MapShape& shape() const { return shape_; }
  // Valid after Forward() until Release(), and after Restore().
  const float* output() const { return output_; }
  // Before the first pass: what the next layers' backward passes read of output().
  void PlanOutput(OutputUse use);
  // After the last use of output() in the forward pass.
  void Release(const Pass& pass);
  // output() for a backward pass that reads it: small values are 0 where it is pruned. Null where
  // nothing is kept.
  const float* Restore();
  // After the last use in the backward pass.
  void Release() { lent_.reset(); }
  // Of stored activations, without what the Workspace lends.
  virtual int64_t ActivationBytes() const;
  // What Backward() reads of its input.
  virtual OutputUse input_use() const = 0;

  // Computes output() from `input`.
  virtual void Forward(const Pass& pass, const float* input) = 0;
  // After Forward() with the same arguments. `delta` is the gradient of the mean loss with respect
  // to output(), and is overwritten; both delta buffers have room for the widest activations.
  // `input_delta` gets the gradient with respect to the input, unless it is null.
  virtual void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                        const BackwardTarget& target) = 0;
  // Appends the layers with weights among this and its parts, in layout order.
  virtual void CollectProducts(std::vector<const ProductLayer*>&) const {}

 protected:
  Layer(const MapShape& shape, BuildContext& context)
      : shape_(shape),
        stride_(context.stride),
        max_width_(WholeLanes(context.max_batch)),
        threads_(context.threads),
        workspace_(context.workspace),
        activation_pruning_(context.activation_pruning) {
    workspace_.NeedDelta(shape_.features() * stride_);
  }

  // What the layer's own Backward() reads of output(): by default nothing. A layer that answers
  // kWeightGradient uses it through ActivationBackward() only.
  virtual OutputUse own_use() const { return OutputUse::kNone; }
  // The use of ActivationBackward() with such an activation.
  static OutputUse UseOf(Activation activation, const DropoutMask& dropout);
  // `delta` for rows of features, from that of the output to that of the preactivation.
  void ActivationBackward(Activation activation, const DropoutMask& dropout, float* delta,
                          int64_t width, RowRange rows) const;

  float* mutable_output();
  int64_t stride() const { return stride_; }
  int threads() const { return threads_; }
  Workspace& workspace() { return workspace_; }

 private:
  MapShape shape_;
  int64_t stride_;
  int64_t max_width_;
  int threads_;
  Workspace& workspace_;
  double activation_pruning_;
  AlignedBuffer owned_;
  std::optional<PrunedOutput> pruned_;  // else the output is owned
  bool kept_ = false;                   // whether pruned_ can restore values
  std::optional<Workspace::Lease> lent_;
  float* output_ = nullptr;
};

// Errors: InvalidArgument (SHAPE_MISMATCH) unless the next tensor of the layout is rows × cols.
absl::Status CheckNextTensor(const BuildContext& context, int64_t rows, int64_t cols);
absl::Status SpecError(const std::string& message);

}  // namespace espalier::worker::engine
