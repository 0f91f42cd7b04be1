// Dropping and growing in rows of users that only this worker has, at a constant number of weights
// in each tensor, by the same rules as the coordinator's for shared tensors.
//
// Determinism: pure functions; ties and selections as in common/sparsity.
// Source:      Wang et al., WSDM 2024 (DSL); its federated form is ours.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/sparsity/top_k.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::worker::tasks {

// Weights of a tensor with `stored` of them that an update replaces at most.
int64_t ReplacedWeights(const v1::PrivateUpdate& update, int64_t stored);

// `gradients` are those of the stored weights, `candidates` one list of inactive positions for each
// tensor (empty lists where growth is random). Grown weights are 0, their optimizer state too.
// `key` is for random growth. Errors: those of tensor::Apply for candidates that do not fit.
absl::StatusOr<tensor::ModelState> ChangeRows(const v1::PrivateUpdate& update,
                                              const tensor::ModelState& rows,
                                              std::span<const float> gradients,
                                              std::span<const sparsity::ScoredPositions> candidates,
                                              uint64_t key);

}  // namespace espalier::worker::tasks
