// The flow through the weights of a linear layer or a convolution.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/engine/conv_shape.h"
#include "worker/engine/flow/flow_node.h"

namespace espalier::worker::engine {

// Takes the layer's tensors. `shape`: a linear layer is a convolution of single positions. Errors:
// SHAPE_MISMATCH, MODEL_TOO_LARGE.
absl::StatusOr<std::unique_ptr<FlowNode>> MakeProductFlow(const LayerSpec& spec,
                                                          const ConvShape& shape,
                                                          FlowContext& context);

}  // namespace espalier::worker::engine
