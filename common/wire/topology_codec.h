// Structures of models as messages: whole ones and changes from one to the next.
//
// A receiver believes the hash only: every decoded structure is compared with the hash it was
// announced with, so that a fault on either side is an error and never a silently different model.
// Random structures and random growth travel as a key (sparsity::DrawPositions): no bytes per
// weight.
// Memory:      O(active weights).
// Threading:   pure functions.
// Determinism: bit-identical everywhere.
// Errors:      TOPOLOGY_HASH_MISMATCH (FailedPrecondition), TOPOLOGY_INVALID and INDEX_SET_INVALID
//              (InvalidArgument), those of tensor::Topology and tensor::Apply.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/topology.pb.h"

namespace espalier::wire {

// Active weights a decoded model may have, whatever a message declares.
constexpr int64_t kDefaultMaxActiveWeights = int64_t{1} << 31;

// `keys` is empty or has one entry per tensor. A tensor with a key must have been drawn by
// DrawPositions(key, nnz, rows·cols). Errors: Internal (SEED_MISMATCH) when it was not.
absl::StatusOr<v1::FullTopology> EncodeTopology(const tensor::ModelTopology& topology,
                                                std::span<const std::optional<uint64_t>> keys = {});

absl::StatusOr<std::shared_ptr<const tensor::ModelTopology>> DecodeTopology(
    const v1::FullTopology& message, std::shared_ptr<const tensor::ModelLayout> layout,
    int64_t max_active_weights = kDefaultMaxActiveWeights);

// How one tensor changed; a dense one as if it stored all its positions. With `growth_key`, the
// ranks of `diff.grown` among the positions that were not kept are DrawPositions(*growth_key,
// grown.size(), rows·cols − kept).
struct TensorChange {
  size_t tensor = 0;
  tensor::TopologyDiff diff;
  std::optional<uint64_t> growth_key;
};

// The change from `base` to `updated`; `changes` are ascending by tensor, each of a sparsifiable
// one. Errors: Internal (SEED_MISMATCH) when grown positions do not follow from their key; Internal
// (TOPOLOGY_INVALID) when a change does not fit `base`.
absl::StatusOr<v1::TopologyUpdate> EncodeTopologyUpdate(const tensor::ModelTopology& base,
                                                        const tensor::ModelTopology& updated,
                                                        std::span<const TensorChange> changes);

// The structure after `update`. Errors: TOPOLOGY_HASH_MISMATCH also when `update` is for another
// base.
absl::StatusOr<std::shared_ptr<const tensor::ModelTopology>> ApplyTopologyUpdate(
    const tensor::ModelTopology& base, const v1::TopologyUpdate& update,
    int64_t max_active_weights = kDefaultMaxActiveWeights);

}  // namespace espalier::wire
