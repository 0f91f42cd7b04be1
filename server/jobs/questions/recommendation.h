// Questions to a recommender for the best items for a user.
//
// Threading:   pure functions.
// Errors:      INVALID_USER, INVALID_K, NO_RECOMMENDER (checkpoint of another model), PRIVATE_USERS
//              (another data set for users whose rows stayed on workers), AMBIGUOUS_USER.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "espalier/v1/checkpoint.pb.h"
#include "server/jobs/questions/questions.h"

namespace espalier::server::jobs {

absl::Status CheckRecommend(const v1::RecommendRequest& request);
absl::Status PrepareRecommend(const v1::RecommendRequest& request, const AskedModel& model,
                              round::StepPlan& plan);

// Whether `workers` that offer the data set can be told apart by who has the user's row.
absl::Status CheckOwner(const AskedModel& model, const std::string& dataset, int32_t workers);

}  // namespace espalier::server::jobs
