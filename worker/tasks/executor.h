// TaskExecutor: does one task of any kind on any family of models and gives back its partial
// result. It holds what a worker keeps between tasks: models, data sets, networks, rows of users.
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
#include <functional>
#include <limits>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"
#include "worker/tasks/language.h"
#include "worker/tasks/memory/memory.h"
#include "worker/tasks/model_cache.h"
#include "worker/tasks/recommender/recommender.h"
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
  // The bytes of a blob, checked against its digest.
  using Fetch = std::function<absl::StatusOr<std::string>(const v1::BlobRef&)>;

  TaskExecutor(ExecutorOptions options, Fetch fetch);

  // From here on Cancel() concerns the task that comes next.
  void BeginTask() { cancelled_ = false; }
  // Ends the task in work, or the one that BeginTask() announced, as soon as it asks.
  void Cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }

  // The result. Its header has task id, epoch and structure filled in.
  absl::StatusOr<Partial> Run(const v1::Task& task);
  // Stored weights of the model of the last task.
  int64_t active_weights() const { return active_weights_; }

 private:
  absl::StatusOr<Partial> RunKind(const v1::Task& task);
  data::LoadOptions DataOptions() const;
  // Lets go of all that is kept from task to task.
  void Forget();
  absl::StatusOr<Partial> RunOnLanguageModel(Surroundings& surroundings, const v1::Task& task);

  const ExecutorOptions options_;
  const Fetch fetch_;
  std::atomic<bool> cancelled_{false};
  ModelCache models_;
  LocalData data_;
  NetworkCache networks_;
  Recommenders recommenders_;
  LanguageTasks language_;
  int64_t active_weights_ = 0;
};

// The kind of a task as metrics call it: "train", "evaluate" …
const char* KindWord(const v1::Task& task);

}  // namespace espalier::worker::tasks
