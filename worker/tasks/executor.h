// TaskExecutor: does one task of any kind on any family of models and gives back its partial
// result. It holds what a worker keeps between tasks (models.h).
//
// The surroundings come in as functions, so that the session gives it a coordinator's blobs, and a
// test or a simulation those of a coordinator in the same process.
//
// Ownership:   keeps copies of its options and of `fetch`.
// Threading:   Run() is called by one thread at a time; Cancel() and BeginTask() by any.
// Determinism: as task.h; the partial's header has no times and no measured memory.
// Errors:      Cancelled after Cancel(); TASK_KIND_UNKNOWN (Unimplemented) for a kind that this
//              version, or the model's family, does not have; OUT_OF_MEMORY (memory.h), after which
//              nothing is kept; those of the kinds. A task that fails leaves the executor usable.
#pragma once

#include <atomic>
#include <cstdint>
#include <limits>
#include <string>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"
#include "worker/tasks/memory/memory.h"
#include "worker/tasks/models.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

struct ExecutorOptions {
  std::string data_root;
  std::string state_dir;  // for rows of users that stay here; empty: such jobs are refused
  int threads = 1;
  // Most memory that a data set may take while it is read.
  int64_t max_dataset_bytes = std::numeric_limits<int64_t>::max();
  // What there is; a task that takes more in any case is not begun.
  MemoryLimit memory_limit = {std::numeric_limits<int64_t>::max(), "nothing"};
};

class TaskExecutor {
 public:
  TaskExecutor(ExecutorOptions options, Models::Fetch fetch);

  // From here on Cancel() concerns the task that comes next.
  void BeginTask() { cancelled_ = false; }
  // Ends the task in work, or the one that BeginTask() announced, as soon as it asks.
  void Cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

  // The result. Its header has task id, epoch and structure filled in.
  absl::StatusOr<Partial> Run(const v1::Task& task);
  // Stored weights of the model of the last task; 0 of a language model in parts.
  int64_t active_weights() const { return active_weights_; }

 private:
  absl::StatusOr<Partial> RunOnModel(const v1::Task& task);

  const ExecutorOptions options_;
  std::atomic<bool> cancelled_{false};
  Models models_;
  int64_t active_weights_ = 0;
};

}  // namespace espalier::worker::tasks
