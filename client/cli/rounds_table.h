// The rounds of a job as a table for people.
#pragma once

#include <google/protobuf/repeated_field.h>

#include "client/cli/context.h"
#include "espalier/v1/job.pb.h"

namespace espalier::cli {

// The last `most` of `rounds` of a job with that spec.
void PrintRounds(const Context& context, const v1::JobSpec& spec,
                 const google::protobuf::RepeatedPtrField<v1::RoundSummary>& rounds, int most);

}  // namespace espalier::cli
