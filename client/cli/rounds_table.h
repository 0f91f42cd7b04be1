// The rounds and runs of a job as tables for people.
#pragma once

#include <google/protobuf/repeated_field.h>

#include "client/cli/context.h"
#include "espalier/v1/job.pb.h"

namespace espalier::cli {

// The last `most` of `rounds` of a job with that spec.
void PrintRounds(const Context& context, const v1::JobSpec& spec,
                 const google::protobuf::RepeatedPtrField<v1::RoundSummary>& rounds, int most);

// The runs of a job that has several, below what stands there; nothing for other jobs.
void PrintRuns(const Context& context, const v1::Job& job);

}  // namespace espalier::cli
