// Grow rules: which positions of one tensor become active.
//
// Order:       total order: larger |score| first, among equals the lower position. Results ascend.
// Ownership:   inputs are borrowed for the call.
// Cost:        O(nnz + candidates); no dense mask or gradient.
// Threading:   pure functions. Determinism: bit-identical everywhere.
// Source:      Mocanu et al., Nature Communications 9, 2018 (random growth); Evci et al., ICML 2020
//              (growth by gradient).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/topology.h"

namespace espalier::sparsity {

// `count` uniformly drawn positions among all that are not kept when `dropped` (ascending indices
// in topology order) goes; just-dropped positions are eligible. The ranks among those positions are
// DrawPositions(key, count, topology.size() − kept), so that the key alone can be broadcast.
// Needs 0 ≤ count ≤ topology.size() − kept.
std::vector<int64_t> GrowRandom(const tensor::Topology& topology, std::span<const int32_t> dropped,
                                int64_t count, uint64_t key);

// The `count` positions of largest |score|, or all when there are fewer. `positions` ascend;
// scores[i] belongs to positions[i].
std::vector<int64_t> GrowByScore(std::span<const int64_t> positions, std::span<const float> scores,
                                 int64_t count);

// Whether `positions` are what a growth candidate list must be: ascending, distinct, within the
// tensor and inactive. For lists that come from workers.
// Errors: InvalidArgument with CANDIDATES_NOT_ASCENDING, CANDIDATE_OUT_OF_RANGE, CANDIDATE_ACTIVE.
absl::Status CheckCandidates(const tensor::Topology& topology, std::span<const int64_t> positions);

// Growth candidates of one tensor: inactive positions, ascending, and the gradient at each.
struct Candidates {
  std::span<const int64_t> positions;
  std::span<const float> gradients;
};

// RigL's update at constant count: drops the `count` weights of smallest |value| and grows the
// `count` positions of largest |gradient| among those not kept.
//
// With `active_gradients` (one per active weight, in topology order) a just-dropped position
// competes as in the paper; one that is dropped and regrown is simply not changed, so it keeps its
// value and optimizer slot and is in neither list of the result. The result is then exactly the
// paper's when `candidates` hold at least the `count` largest inactive gradients. Without them
// (empty) only candidates can be grown: FedTiny's rule. Where fewer positions can be grown than
// asked for, as few weights are dropped.
// Errors: InvalidArgument for candidates that CheckCandidates refuses, or when numbers of values,
//         gradients and positions do not agree (SHAPE_MISMATCH).
absl::StatusOr<tensor::TopologyDiff> RigLUpdate(const tensor::Topology& topology,
                                                std::span<const float> values,
                                                const Candidates& candidates, int64_t count,
                                                std::span<const float> active_gradients = {});

}  // namespace espalier::sparsity
