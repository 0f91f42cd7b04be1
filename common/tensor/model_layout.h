// The tensors that a ModelSpec stands for. Coordinator and workers derive the same layout from the
// same spec, so that only values travel.
#pragma once

#include "common/tensor/model.h"

namespace espalier::tensor {

// A linear layer as far as its tensors are concerned.
struct LinearShape {
  int64_t units = 0;
  bool dense = false;
  bool bias = true;
};

// layers.<i>.weight (units × inputs, sparsifiable unless dense) and layers.<i>.bias (units) for
// each i. Errors: InvalidArgument for dimensions < 1 or a weight of more than 2^53 positions.
absl::StatusOr<ModelLayout> LinearStackLayout(int64_t input_features,
                                              std::span<const LinearShape> layers);

}  // namespace espalier::tensor
