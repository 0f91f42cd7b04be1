// Task kind `train`, of a model of any family.
#pragma once

#include <atomic>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"
#include "worker/tasks/model.h"

namespace espalier::worker::tasks {

// Errors: those of Model; NON_FINITE when training diverges; UnknownSection().
absl::StatusOr<Partial> RunTrain(const v1::Task& task, const std::atomic<bool>& cancelled,
                                 Model& model);

}  // namespace espalier::worker::tasks
