// FedTiny's pool of candidates: one dense initial model pruned by magnitude, each time with another
// allocation of the same total density to its layers.
//
// Allocation c: Erdős–Rényi-kernel scores times exp(u), u uniform in [−0.5, 0.5] for each layer,
// solved for the budget; candidate 0 is unperturbed. Within a layer the largest magnitudes stay.
// Memory:      that of the candidate: dense weights are drawn one after the other and not kept.
// Time:        proportional to the dense model.
// Determinism: a pure function of spec, density, seed and number.
// Source:      Huang et al., ICDCS 2023; how allocations are drawn is not published.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"

namespace espalier::server::methods {

// Errors: those of wire::LayoutOf() and sparsity::Allocate().
absl::StatusOr<tensor::ModelState> PoolCandidate(const v1::ModelSpec& spec, double density,
                                                 uint64_t seed, int64_t number);

}  // namespace espalier::server::methods
