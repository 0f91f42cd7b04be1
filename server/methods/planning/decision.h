// Decision: a change of structure that a planner outside of the program chose, as bytes, and what a
// program takes of it.
//
// A decision is an Evolution whose tensors either name the positions that grow or have a growth
// key: then as many grow at random, drawn from the key, as the tensor drops. Bytes are those of
// PutEvolution(). No bytes at all: nothing changes.
// Ownership:   plain values.
// Threading:   pure functions. Determinism: exact.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "server/methods/evolution.h"

namespace espalier::server::methods {

std::string EncodeDecision(const Evolution& decision);

// What `bytes` say about a model of this structure, with what grows at random drawn. `most`: the
// weights that each tensor may have, one entry per tensor.
// Errors: InvalidArgument INVALID_DECISION for bytes that are damaged, tensors that are not in
// ascending order or not sparse, indices that are not ascending or that the tensor does not have,
// growth where a weight stays, and a tensor that ends without weights or with more than `most`.
absl::StatusOr<Evolution> ReadDecision(const tensor::ModelTopology& topology,
                                       std::span<const int64_t> most, std::string_view bytes);

}  // namespace espalier::server::methods
