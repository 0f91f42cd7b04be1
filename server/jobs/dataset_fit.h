// Whether a job can be done on a data set, by what a worker says of it.
//
// Threading: pure functions.
#pragma once

#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/job.pb.h"

namespace espalier::server::jobs {

// What does not fit between the job and the data set that is described so; empty when all does.
std::vector<config::Violation> Misfits(const v1::JobSpec& spec, const v1::DatasetInfo& info);

}  // namespace espalier::server::jobs
