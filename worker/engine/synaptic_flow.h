// SynapticFlow: how much of what flows from the inputs of a network to its outputs goes through
// each weight, and pruning by it (SynFlow).
//
// Flow:        R is the sum of the outputs for one example of ones, with the magnitude of every
//              weight in its place. The score of a weight is |w|·∂R/∂|w|. Biases, shifts and
//              running means, which are 0 in a new network, and dropout are left out; batch norms
//              multiply by |scale| / √(running variance + epsilon); activations are taken for what
//              they are to positive numbers under ReLU: the identity. So R is linear in the
//              weights of each layer.
// Range:       arithmetic in double. After each layer of the outer chain (a residual block is one)
//              everything is multiplied by a power of two that brings the largest activation near
//              1: all scores of a network then have one factor in common, whatever its depth.
// Memory:      20 bytes per weight that is left and 8 more to prune, 16 per activation of one
//              example.
// Threading:   one caller; work is split over `threads`.
// Determinism: the same bits for any number of threads; among equal scores the lower position
//              stays.
// Errors:      Create(): InvalidArgument for a model that does not fit (SHAPE_MISMATCH) or has a
//              tensor of 2^32 positions or more (MODEL_TOO_LARGE); Unimplemented for a kind of
//              layer that says no flow (SYNAPTIC_FLOW_NOT_OFFERED).
// Source:      Tanaka et al., NeurIPS 2020, algorithm 1.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "worker/engine/flow/flow_node.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

class SynapticFlow {
 public:
  // Of a network that Network::Create() accepts. `values` in layout order.
  static absl::StatusOr<SynapticFlow> Create(const NetworkSpec& spec,
                                             std::shared_ptr<const tensor::ModelTopology> topology,
                                             std::span<const float> values, int threads);

  // Scores what is left.
  void Score();
  // Leaves the `count` sparsifiable weights of largest score; all when there are fewer, or when
  // scores are not finite.
  void Prune(int64_t count);

  // Scores of the last Score(), one for every position of the sparsifiable tensors, in layout
  // order, with the largest 1: at least 2^-59 at weights that are left, 0 at all others. Infinite
  // or NaN when the network's values are too large for double.
  std::vector<float> NormalizedScores() const;
  // The same numbers before they were scaled and cut.
  std::vector<double> Scores() const;

 private:
  SynapticFlow(std::shared_ptr<const tensor::ModelTopology> topology, FlowChain chain,
               std::vector<FlowWeight*> weights, int64_t input_features);

  std::shared_ptr<const tensor::ModelTopology> topology_;
  FlowChain chain_;
  std::vector<FlowWeight*> weights_;  // of the chain's nodes, in layout order
  int64_t input_features_;
};

}  // namespace espalier::worker::engine
