// The task kinds: what each asks of a model, and how the answers become a result.
#pragma once

#include <atomic>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"
#include "worker/tasks/model.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

// Does `task` on its model. The header lacks task id, epoch and structure.
// Errors: TASK_KIND_UNKNOWN (Unimplemented) for a kind that this version, or the model's family,
// does not have; those of Model.
absl::StatusOr<Partial> RunKind(const v1::Task& task, const std::atomic<bool>& cancelled,
                                Model& model);

// The kind of a task as metrics call it: "train", "evaluate" …
const char* KindWord(const v1::Task& task);

}  // namespace espalier::worker::tasks
