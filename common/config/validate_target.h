// Rules for what a job learns of each example: data.target with its columns, and what has to fit
// it: loss, last layer, class weights, main metric, partition.
//
// Threading, determinism: pure functions.
#pragma once

#include "common/config/checker.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// Appends all violations; `at` is the root of the spec. The answer is the same before and after
// ApplyTargetDefaults().
void ValidateTarget(const v1::JobSpec& spec, bool prunes, const Checker& at);

// Fills in the loss, the last layer's activation where labels need one, and the main metric.
void ApplyTargetDefaults(v1::JobSpec& spec, bool prunes);

}  // namespace espalier::config
