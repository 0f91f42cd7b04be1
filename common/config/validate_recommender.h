// The rules of RecommenderSpec: ranges, and what does not go with a recommender.
#pragma once

#include "common/config/checker.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// Appends violations to `at`, the checker of the model's path. `model` has a recommender. Returns
// whether its tensors can be told.
bool ValidateRecommender(const v1::ModelSpec& model, const Checker& at);

}  // namespace espalier::config
