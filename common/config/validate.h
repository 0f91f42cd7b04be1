// Rules that every job must obey, whatever its method: the ranges and consistency rules stated in
// the comments of proto/espalier/v1. Parameters of the method are checked by the method's own
// declaration.
//
// Threading, determinism: pure functions.
#pragma once

#include <string_view>
#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/job.pb.h"

namespace espalier::config {

// What is too long or too deep in it for anything to be computed from it (well_formed.h).
std::vector<Violation> CheckSizes(const v1::JobSpec& spec);

// All violations; only those of CheckSizes() when there are any. With paths from the spec's root
// ("federation.rounds"). Fields that have a default may be unset: the answer is the same before and
// after ApplyDefaults().
std::vector<Violation> ValidateJobSpec(const v1::JobSpec& spec);

// Writes the documented defaults into unset fields, so that a stored spec says all that was used.
// Meant for valid specs; harmless for others. Idempotent.
void ApplyDefaults(v1::JobSpec& spec);

// Whether jobs of the method of that name prune a trained model and train nothing. The method's
// declaration says the same (server/methods); here clients can ask, too.
bool IsPruningMethod(std::string_view method);

// Puts small sizes in where a job leaves out those that its data set says, so that it can be
// validated before the data set is known.
void AssumeSizes(v1::JobSpec& spec);

}  // namespace espalier::config
