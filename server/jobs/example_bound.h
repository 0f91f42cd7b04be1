// How many examples the update of a participant can be about: what a worker says of it is believed
// no further.
//
// Threading: pure functions.
#pragma once

#include <cstdint>

#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::jobs {

// For one participant of a job on the data set that is described so; 0 = the description does not
// tell. Of text a token is at least one byte. With LOCAL data `info` is that of the participant.
int64_t MostExamples(const v1::JobSpec& spec, const v1::Task& task, const v1::DatasetInfo& info);

}  // namespace espalier::server::jobs
