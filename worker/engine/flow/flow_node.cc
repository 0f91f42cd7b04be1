#include "worker/engine/flow/flow_node.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {

absl::StatusOr<size_t> FlowContext::Take(int64_t rows, int64_t cols) {
  const tensor::ModelLayout& layout = topology.layout();
  if (next_tensor < layout.size() && layout[next_tensor].rows == rows &&
      layout[next_tensor].cols == cols) {
    return next_tensor++;
  }
  return base::InvalidArgument(
      "SHAPE_MISMATCH", fmt::format("tensor {} of the model must be {} × {} for this network",
                                    next_tensor, rows, cols));
}

absl::StatusOr<FlowChain> FlowChain::Create(const std::vector<LayerSpec>& specs,
                                            const MapShape& input, FlowContext& context) {
  FlowChain chain;
  chain.shape_ = input;
  for (const LayerSpec& spec : specs) {
    ESPALIER_ASSIGN_OR_RETURN(const EngineKind* kind, EngineKindOf(spec.kind));
    ESPALIER_ASSIGN_OR_RETURN(std::unique_ptr<FlowNode> node,
                              kind->MakeFlow(spec, chain.shape_, context));
    chain.shape_ = node->shape();
    chain.links_.push_back({.node = std::move(node), .output = {}});
  }
  return chain;
}

const FlowValues& FlowChain::Forward(const FlowValues& input, bool rescale) {
  const FlowValues* current = &input;
  for (Link& link : links_) {
    link.output.assign(link.node->shape().features(), 0);
    link.node->Forward(*current, link.output);
    const double largest = *std::ranges::max_element(link.output);
    const bool scales = rescale && largest > 0 && std::isfinite(largest);
    link.factor = scales ? std::ldexp(1.0, std::clamp(-std::ilogb(largest), -1000, 1000)) : 1;
    for (double& value : link.output) value *= link.factor;
    current = &link.output;
  }
  return *current;
}

FlowValues FlowChain::Backward(const FlowValues& input, FlowValues delta) {
  for (size_t i = links_.size(); i-- > 0;) {
    for (double& value : delta) value *= links_[i].factor;
    delta = links_[i].node->Backward(i > 0 ? links_[i - 1].output : input, std::move(delta));
  }
  return delta;
}

}  // namespace espalier::worker::engine
