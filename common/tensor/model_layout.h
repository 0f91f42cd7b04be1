// The tensors that a ModelSpec stands for. Coordinator and workers derive the same layout from the
// same spec, so that only values travel.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"

namespace espalier::tensor {

// A tensor of that shape, neither sparsifiable nor a buffer. Errors: InvalidArgument
// (SHAPE_OUT_OF_RANGE) for dimensions < 1 or ≥ 2^31 − 1 and for more than 2^53 positions.
absl::StatusOr<TensorSpec> CheckedTensor(std::string name, std::vector<int64_t> shape);

// A linear layer as far as its tensors are concerned.
struct LinearShape {
  int64_t units = 0;
  bool dense = false;
  bool bias = true;
};

// layers.<i>.weight (units × inputs, sparsifiable unless dense) and layers.<i>.bias (units) for
// each i. Errors: those of CheckedTensor(), NO_LAYERS.
absl::StatusOr<ModelLayout> LinearStackLayout(int64_t input_features,
                                              std::span<const LinearShape> layers);

}  // namespace espalier::tensor
