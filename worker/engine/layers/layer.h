// Layer: one node of a network; and what the layers of a network share.
//
// Shapes:      activations are feature-major [features][stride], the features of an image channel
// by
//              channel and row by row. Of a batch, `size` columns count, and `width` are computed.
//              Columns [size, width) of activations may hold anything finite; those of deltas are
//              zero, which every Backward() preserves.
// Memory:      a layer owns its output; deltas are lent by the Workspace and as large as the widest
//              activations.
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
#include "worker/engine/spec.h"
#include "worker/engine/weight_matrix.h"

namespace espalier::worker::engine {

// kTrain: dropout, statistics of the batch, running statistics move. kGradient: statistics of the
// batch, nothing else changes. kCalibrate: statistics of the batch, running statistics move.
// kEvaluate: running statistics.
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

  // A delta buffer, given back at the end of the scope.
  class Lease {
   public:
    explicit Lease(Workspace& workspace) : workspace_(workspace) {
      if (workspace.leased_ == workspace.deltas_.size()) {
        workspace.deltas_.emplace_back(workspace.delta_floats_);
      }
      data_ = workspace.deltas_[workspace.leased_++].data();
    }
    ~Lease() { --workspace_.leased_; }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    float* data() { return data_; }

   private:
    Workspace& workspace_;
    float* data_;
  };

 private:
  int64_t scratch_floats_ = 0;
  int64_t vector_floats_ = 0;
  int64_t delta_floats_ = 0;
  AlignedBuffer scratch_;
  AlignedBuffer vector_;
  std::vector<AlignedBuffer> deltas_;
  size_t leased_ = 0;
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
  int64_t sequence = 1;
  size_t next_tensor = 0;
  Embedding* embedding = nullptr;  // once there is one
};

// Where the results of a backward pass go; either may be empty.
struct BackwardTarget {
  // Gradients of stored values, by offset in the model. It may change the values at once: a layer
  // does not read its values after it has given their gradient.
  GradientSink gradients = {};
  // For layers with weights: the gradient with respect to the preactivation, and the input.
  std::function<void(const ProductLayer& layer, const float* delta, const float* input)> capture =
      {};
};

class Layer {
 public:
  virtual ~Layer() = default;

  const MapShape& shape() const { return shape_; }
  const float* output() const { return output_.data(); }

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
        threads_(context.threads),
        workspace_(context.workspace),
        output_(shape.features() * context.stride) {
    workspace_.NeedDelta(output_.size());
  }

  float* mutable_output() { return output_.data(); }
  int64_t stride() const { return stride_; }
  int threads() const { return threads_; }
  Workspace& workspace() { return workspace_; }

 private:
  MapShape shape_;
  int64_t stride_;
  int threads_;
  Workspace& workspace_;
  AlignedBuffer output_;
};

// Errors: InvalidArgument (SHAPE_MISMATCH) unless the next tensor of the layout is rows × cols.
absl::Status CheckNextTensor(const BuildContext& context, int64_t rows, int64_t cols);
absl::Status SpecError(const std::string& message);

}  // namespace espalier::worker::engine
