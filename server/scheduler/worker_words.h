// What a worker may say of itself and of its tasks: limits at the door, so that nobody's words fill
// the coordinator's memory, its answers or its logs.
//
// Threading: pure functions.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::server::scheduler {

// Errors: InvalidArgument INVALID_WORKER_ID, INVALID_REGISTRATION (lengths, counts, numbers, and
// what is no policy).
absl::Status CheckRegistration(const v1::Register& hello);

// Errors: InvalidArgument INVALID_DESCRIPTION (lengths, counts, numbers).
absl::Status CheckDescription(const v1::DatasetInfo& info);

// A stable reason as it was given, or WORKER_FAILED when it is none.
std::string CleanReason(const std::string& reason);

// Whether a failure of this reason says that the worker is not for the job, being too small or not
// allowed to do it, and not that something is wrong with the task.
bool IsUnfit(const std::string& reason);

// The beginning of a message that is too long, cut between two characters.
std::string CutMessage(const std::string& message);

}  // namespace espalier::server::scheduler
