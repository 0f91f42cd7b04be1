// The tensors of a recommender, from its description in the API; see recommender.proto for their
// names and shapes.
//
// Order:       tensors that all workers share first, tensors with a row for each user last: what a
//              worker of a job with private users trains is the concatenation of the two lists.
// Determinism: equal specs give equal layouts on every machine.
// Threading:   pure functions.
// Errors:      InvalidArgument: UNKNOWN_MODEL without a kind, SHAPE_OUT_OF_RANGE for dimensions
//              outside what tensor::CheckedTensor() allows and for more than kMaxAttentionLayers.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "common/wire/model_spec/model_spec.h"
#include "espalier/v1/recommender.pb.h"

namespace espalier::wire {

constexpr int32_t kMaxAttentionLayers = 8;

// `spec` with the documented defaults in unset fields. Idempotent.
v1::RecommenderSpec ExplicitRecommender(const v1::RecommenderSpec& spec);

// The model that is sent, averaged and stored: shared tensors and, unless users are private, those
// of all users.
absl::StatusOr<std::vector<ModelTensor>> RecommenderTensors(const v1::RecommenderSpec& spec);

// The tensors with rows of users alone, for `users` of them: with private users, what a worker that
// owns that many keeps to itself. Empty for multvae. `users` ≥ 1.
absl::StatusOr<std::vector<ModelTensor>> UserTensors(const v1::RecommenderSpec& spec,
                                                     int64_t users);

}  // namespace espalier::wire
