// Square windows that slide over an image: what convolutions and pooling share.
//
// Threading:   pure functions.
// Errors:      as in shapes.h.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/layer_spec.h"
#include "common/wire/model_spec/shapes.h"

namespace espalier::wire {

struct Window {
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t padding = 0;
};

// OK when `input` is an image.
absl::Status NeedsImage(const FeatureShape& input);

// The image of `channels` that windows over `input` make.
absl::StatusOr<FeatureShape> Slide(const Window& window, int64_t channels,
                                   const FeatureShape& input);

inline void DescribeWindow(const Window& window, tensor::LayerSpec& spec) {
  spec.kernel = window.kernel;
  spec.stride = window.stride;
  spec.padding = window.padding;
}

}  // namespace espalier::wire
