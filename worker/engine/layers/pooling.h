// Pooling: the largest value or the mean of windows within each channel of an image.
//
// Of equal largest values the first, row by row, gets the gradient.
#pragma once

#include <memory>

#include "worker/engine/layers/layer.h"

namespace espalier::worker::engine {

struct PoolWindow {
  int64_t height = 1;
  int64_t width = 1;
  int64_t stride = 1;
};

// Of an input that the window fits into.
MapShape PooledShape(const PoolWindow& window, const MapShape& input);

// `largest`: the largest value of each window, else the mean. Errors: NETWORK_SPEC when the window
// does not fit.
absl::StatusOr<std::unique_ptr<Layer>> MakePooling(bool largest, const PoolWindow& window,
                                                   const MapShape& input, BuildContext& context);

}  // namespace espalier::worker::engine
