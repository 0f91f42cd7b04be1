// Whether a job can be done on a data set, by what a worker says of it.
//
// Threading: pure functions.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "common/config/parameters.h"
#include "espalier/v1/job.pb.h"

namespace espalier::server::datasets {

// What does not fit between the job and the data set that is described so; empty when all does.
std::vector<config::Violation> Misfits(const v1::JobSpec& spec, const v1::DatasetInfo& info);

// Says of a worker's description why the job cannot be done there; "" if it can.
std::function<std::string(const v1::DatasetInfo&)> FitJudge(const v1::JobSpec& spec);

}  // namespace espalier::server::datasets
