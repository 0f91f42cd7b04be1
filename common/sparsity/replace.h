// Replacing weights at a constant count: grow as many by gradient as a drop rule chose, with what
// was just dropped among the candidates (Dynamic Sparse Learning).
//
// Order:       as grow.h: larger |gradient| first, among equals the lower position.
// Threading:   pure functions. Determinism: bit-identical everywhere.
// Source:      Wang et al., WSDM 2024 (DSL).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/sparsity/grow.h"
#include "common/tensor/topology.h"

namespace espalier::sparsity {

// ⌈fraction · count⌉ of the decimal fraction that was meant, at most `count`.
int64_t CeilingOf(double fraction, int64_t count);

// Grows as many positions as `dropped` has, among `candidates` and, unless `active_gradients` (one
// per stored weight) is empty, what is dropped. A position may then be in both lists: it is grown
// anew. Where fewer can be grown, only so many of `dropped` go: those of smallest |key|, where
// `keys` (one per stored weight) is what the drop rule went by.
// Errors: InvalidArgument for candidates that CheckCandidates refuses; SHAPE_MISMATCH.
absl::StatusOr<tensor::TopologyDiff> ReplaceByGradient(const tensor::Topology& topology,
                                                       std::span<const float> keys,
                                                       std::vector<int32_t> dropped,
                                                       const Candidates& candidates,
                                                       std::span<const float> active_gradients);

}  // namespace espalier::sparsity
