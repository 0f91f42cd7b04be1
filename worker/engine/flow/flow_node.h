// FlowNode: how what flows through a network of magnitudes passes one layer; and what the nodes of
// a network share. See synaptic_flow.h for what flows, in which units, and how it is scored.
//
// Ownership:   nodes own their weights; a context lists them for the one who made the nodes.
// Threading:   one caller at a time; a node splits its work over the context's threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

// Of one example, in the order of features.
using FlowValues = std::vector<double>;

// The weights of one tensor that are left, by ascending position.
struct FlowWeight {
  bool sparsifiable = false;
  int64_t first = 0;  // of the tensor among the positions of sparsifiable ones
  std::vector<uint32_t> positions;
  std::vector<double> magnitudes;
  std::vector<double> scores;
};

// What nodes are made from. Tensors are taken in layout order.
struct FlowContext {
  const tensor::ModelTopology& topology;
  std::span<const float> values;  // of the whole model
  int threads = 1;
  size_t next_tensor = 0;
  int64_t sparsifiable = 0;               // positions in sparsifiable tensors that were taken
  std::vector<FlowWeight*> weights = {};  // of nodes so far, in layout order

  // The next tensor. Errors: InvalidArgument (SHAPE_MISMATCH) unless it is rows × cols.
  absl::StatusOr<size_t> Take(int64_t rows, int64_t cols);
  std::span<const float> ValuesOf(size_t tensor) const {
    return values.subspan(topology.offset(tensor), topology.stored(tensor));
  }
};

class FlowNode {
 public:
  explicit FlowNode(const MapShape& shape) : shape_(shape) {}
  virtual ~FlowNode() = default;

  // Of the output.
  const MapShape& shape() const { return shape_; }
  // `output` is as long as the output's features and 0 everywhere.
  virtual void Forward(const FlowValues& input, FlowValues& output) = 0;
  // After Forward() with the same input: takes the gradient with respect to the output, returns
  // that with respect to the input, and scores the node's weights.
  virtual FlowValues Backward(const FlowValues& input, FlowValues delta) = 0;

 private:
  MapShape shape_;
};

// Nodes one after the other.
class FlowChain {
 public:
  static absl::StatusOr<FlowChain> Create(const std::vector<LayerSpec>& specs,
                                          const MapShape& input, FlowContext& context);

  // Of the output; of the input when there are no layers.
  const MapShape& shape() const { return shape_; }
  // The output, valid until the next call; `input` when there are no layers. `rescale`: multiply
  // every node's output by the power of two that brings its largest value near 1.
  const FlowValues& Forward(const FlowValues& input, bool rescale);
  // As in FlowNode.
  FlowValues Backward(const FlowValues& input, FlowValues delta);

 private:
  struct Link {
    std::unique_ptr<FlowNode> node;
    FlowValues output;
    double factor = 1;  // what the output was multiplied by
  };

  MapShape shape_;
  std::vector<Link> links_;
};

}  // namespace espalier::worker::engine
