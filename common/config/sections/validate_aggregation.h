// Rules for a job's `aggregation` section and for what goes with it: proximal_mu and
// control_variates.
//
// Threading, determinism: pure functions.
#pragma once

#include "common/config/checker.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// Appends all violations; `at` is the root of the spec. The answer is the same before and after
// ApplyAggregationDefaults().
void ValidateAggregation(const v1::JobSpec& spec, const Checker& at);

// Writes the documented defaults into the fields that the section's rule and optimizer use.
void ApplyAggregationDefaults(v1::Aggregation& aggregation);

}  // namespace espalier::config
