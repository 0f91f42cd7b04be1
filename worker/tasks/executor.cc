#include "worker/tasks/executor.h"

#include <utility>

#include "common/base/status.h"
#include "worker/tasks/kinds.h"

namespace espalier::worker::tasks {

TaskExecutor::TaskExecutor(ExecutorOptions options, Models::Fetch fetch)
    : options_(std::move(options)),
      models_({.data_root = options_.data_root,
               .state_dir = options_.state_dir,
               .threads = options_.threads,
               .load = {.max_memory_bytes = options_.max_dataset_bytes, .cancelled = &cancelled_}},
              std::move(fetch), cancelled_) {}

absl::StatusOr<Partial> TaskExecutor::RunOnModel(const v1::Task& task) {
  ESPALIER_ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, models_.Get(task));
  active_weights_ = model->stored_weights();
  ESPALIER_ASSIGN_OR_RETURN(Partial partial, RunKind(task, cancelled_, *model));
  // What a model predicts is an answer, whatever it is.
  if (!task.has_predict()) ESPALIER_RETURN_IF_ERROR(CheckFinite(partial));
  return partial;
}

absl::StatusOr<Partial> TaskExecutor::Run(const v1::Task& task) {
  ESPALIER_ASSIGN_OR_RETURN(Partial partial,
                            WithinMemory(
                                task, options_.memory_limit, [&] { return RunOnModel(task); },
                                [this] { models_.Forget(); }));
  partial.header.set_task_id(task.task_id());
  *partial.header.mutable_epoch() = task.epoch();
  partial.header.set_topology_hash(task.model().topology_hash());
  return partial;
}

}  // namespace espalier::worker::tasks
