// FedTiny's pool of candidates: one dense model pruned by magnitude, each time with another
// allocation of the same total density to its layers.
//
// Allocation c: Erdős–Rényi-kernel scores times exp(u), u uniform in [−0.5, 0.5] for each layer,
// solved for the budget; candidate 0 is unperturbed. Within a layer the largest magnitudes stay.
// Memory:      that of the candidate: dense weights are looked at one after the other and not kept.
// Time:        proportional to the dense model.
// Determinism: a pure function of spec, density, seed, number and the dense model.
// Source:      Huang et al., ICDCS 2023; how allocations are drawn is not published.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"
#include "server/methods/start/dense_source.h"

namespace espalier::server::methods {

// `dense` has the tensors of `spec`. Those that are not pruned are taken over as they are, running
// statistics too. Errors: those of wire::LayoutOf(), sparsity::Allocate() and DenseSource.
absl::StatusOr<tensor::ModelState> PoolCandidate(const v1::ModelSpec& spec, double density,
                                                 uint64_t seed, int64_t number,
                                                 const DenseSource& dense);

}  // namespace espalier::server::methods
