// Actions that are more than one call: a job file that is submitted, and a question to a recommender.
//
// Threading: wait for the coordinator; any thread.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "client/dashboard/parameters.h"
#include "client/lib/client.h"

namespace espalier::dashboard {

// Errors: InvalidArgument JOB_FILE_INVALID with every violation and its line, those of the coordinator
// among them; those of CreateJob.
absl::StatusOr<v1::Job> Submit(client::Client& client, const JobSubmission& submission);

// Without a checkpoint, by the newest one of the job. Errors: InvalidArgument CHECKPOINT_OF_ANOTHER_JOB;
// FailedPrecondition NO_CHECKPOINT; those of Recommend.
absl::StatusOr<v1::RecommendResponse> Recommend(client::Client& client, const std::string& job,
                                                v1::RecommendRequest request);

}  // namespace espalier::dashboard
