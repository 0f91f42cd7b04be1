// The metrics that an evaluation of a job gives, by name: what evaluation.main_metric may be. Those
// of recommenders are in validate_interactions.cc, since they depend on evaluation.top_k.
//
// Threading: pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "espalier/v1/job.pb.h"

namespace espalier::config {

// What an example of the job has to be told: decides on losses and metrics.
enum class TargetKind { kClass, kLabels, kValues, kInput, kToken, kPair };
TargetKind TargetOf(const v1::JobSpec& spec);

// The default first. Whether one is there may also depend on the model: auc is of two classes.
// Empty for recommenders.
std::vector<std::string> MetricNames(TargetKind target, bool prunes);

// Whether the smallest value is the best: of losses, errors and perplexity.
bool LowerIsBetter(std::string_view metric);
// Whether `value` of the metric is better than `other`; equal ones are not.
bool IsBetter(std::string_view metric, double value, double other);

}  // namespace espalier::config
