// What a weight costs of a round's time, layer by layer.
//
// Units:       any, the same for both parameters (seconds, say).
// Determinism: pure function.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/model.pb.h"

namespace espalier::server::methods {

// For each tensor of the layout per_weight + per_operation · (output positions of its layer): a
// weight of a convolution is used once at every position, one of a linear layer once. Tensors that
// are no weights have 0. Errors: those of wire::LayoutOf().
absl::StatusOr<std::vector<double>> WeightCosts(const v1::ModelSpec& spec, double per_weight,
                                                double per_operation);

}  // namespace espalier::server::methods
