// What belongs to a caller: jobs that he created, and their checkpoints.
//
// Whoever may see his own alone is told of others that they are not there, in the words of one that is
// not.
// Threading: on the core executor.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "espalier/v1/model.pb.h"
#include "server/access/caller.h"
#include "server/api/context.h"

namespace espalier::server::api {

// Errors: NotFound JOB_NOT_FOUND.
absl::Status CheckJob(const Context& context, const access::Caller& caller,
                      const std::string& name);
// "checkpoints/{job}-{round}", or "jobs/{job}", which stands for its newest one. Errors: NotFound
// CHECKPOINT_NOT_FOUND.
absl::Status CheckCheckpoint(const Context& context, const access::Caller& caller,
                             const std::string& name);
// What a new job begins with. Errors: as CheckCheckpoint().
absl::Status CheckPretrained(const Context& context, const access::Caller& caller,
                             const v1::ModelSpec& model);

}  // namespace espalier::server::api
