// Pooling: the largest value or the mean of windows within each channel of an image.
//
// Of equal largest values the first, row by row, gets the gradient.
#pragma once

#include <memory>

#include "worker/engine/layers/layer.h"

namespace espalier::worker::engine {

// For kMaxPool, kAveragePool and kGlobalAveragePool.
absl::StatusOr<std::unique_ptr<Layer>> MakePooling(const LayerSpec& spec, const MapShape& input,
                                                   BuildContext& context);

}  // namespace espalier::worker::engine
