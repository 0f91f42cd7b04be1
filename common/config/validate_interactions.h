// The rules of a recommender's data and evaluation.
#pragma once

#include "common/config/checker.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// Appends violations to `root`, the checker of the whole job, whose model is a recommender.
void ValidateInteractions(const v1::JobSpec& spec, const Checker& root);

}  // namespace espalier::config
