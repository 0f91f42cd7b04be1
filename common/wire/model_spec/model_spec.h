// The tensors of a network, from its description in the API.
//
// Determinism: equal specs give equal layouts on every machine.
// Threading:   pure function.
// Errors:      InvalidArgument for a layer of unknown kind (UNKNOWN_LAYER) and for dimensions that
//              tensor::LinearStackLayout refuses.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/model.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

absl::StatusOr<std::shared_ptr<const tensor::ModelLayout>> LayoutOf(const v1::ModelSpec& spec);

// Floats that the result of `task` carries for each stored weight: its value, and in training whose
// optimizer state crosses rounds one more for momentum, or two for Adam's moments.
int ValuesPerWeight(const v1::Task& task);

}  // namespace espalier::wire
