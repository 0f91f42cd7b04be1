// How many examples the update of a participant can be about: what a worker says of it is believed
// no further.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/scheduler/fleet.h"

namespace espalier::server::jobs {

// The description of the job's data set that most of these workers give; of equally many the one of
// the worker whose id comes first. Null when none of them has the data set.
const v1::DatasetInfo* CommonDataset(const scheduler::Fleet& fleet,
                                     const std::set<std::string>& workers,
                                     const std::string& dataset);

// For one participant of a job on the data set that is described so; 0 = it cannot be told (text,
// whose examples depend on how it is cut). With LOCAL data `info` is that of the participant.
int64_t MostExamples(const v1::JobSpec& spec, const v1::Task& task, const v1::DatasetInfo& info);

}  // namespace espalier::server::jobs
