// The flow through pooling layers.
#pragma once

#include <memory>

#include "worker/engine/flow/flow_node.h"
#include "worker/engine/layers/pooling.h"

namespace espalier::worker::engine {

// `largest`: the largest value of each window, else the mean.
std::unique_ptr<FlowNode> MakePoolingFlow(bool largest, const PoolWindow& window,
                                          const MapShape& input);

}  // namespace espalier::worker::engine
