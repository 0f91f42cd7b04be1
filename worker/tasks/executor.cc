#include "worker/tasks/executor.h"

#include <utility>

#include "common/base/status.h"

namespace espalier::worker::tasks {
namespace {

absl::Status UnknownKind() {
  return base::MakeError(absl::StatusCode::kUnimplemented, "TASK_KIND_UNKNOWN",
                         "expected a kind of task that this worker (version " ESPALIER_VERSION
                         ") knows, found another; upgrade the worker");
}

absl::StatusOr<Partial> RunOnRecommender(Surroundings& surroundings, const v1::Task& task,
                                         const std::shared_ptr<const tensor::ModelState>& model) {
  switch (task.kind_case()) {
    case v1::Task::kTrain:
      return RunRecommenderTrain(surroundings, task, model);
    case v1::Task::kEvaluate:
      return RunRecommenderEvaluate(surroundings, task, model);
    case v1::Task::kRecommend:
      return RunRecommend(surroundings, task, model);
    case v1::Task::kPredict:
      return RunRecommenderPredict(surroundings, task, model);
    case v1::Task::kEcho:
      return RunEcho(task, model);
    default:
      return base::MakeError(absl::StatusCode::kUnimplemented, "TASK_KIND_UNKNOWN",
                             "this method's steps do not exist for recommenders: expected train or "
                             "evaluate; use dsl, set, rigl, static or dense");
  }
}

absl::StatusOr<Partial> RunOnNetwork(Surroundings& surroundings, const v1::Task& task,
                                     const std::shared_ptr<const tensor::ModelState>& model) {
  switch (task.kind_case()) {
    case v1::Task::kTrain:
      return RunTrain(surroundings, task, model);
    case v1::Task::kEvaluate:
      return RunEvaluate(surroundings, task, model);
    case v1::Task::kCalibrate:
      return RunCalibrate(surroundings, task, model);
    case v1::Task::kScore:
      return RunScore(surroundings, task, model);
    case v1::Task::kGrowth:
      return RunGrowth(surroundings, task, model);
    case v1::Task::kChannelStatistics:
      return RunChannelStatistics(surroundings, task);
    case v1::Task::kEcho:
      return RunEcho(task, model);
    case v1::Task::kActivationStatistics:
      return RunActivationStatistics(surroundings, task, model);
    case v1::Task::kPredict:
      return RunPredict(surroundings, task, model);
    default:
      return UnknownKind();
  }
}

}  // namespace

TaskExecutor::TaskExecutor(ExecutorOptions options, Fetch fetch)
    : options_(std::move(options)),
      fetch_(std::move(fetch)),
      models_(fetch_),
      data_(options_.data_root, DataOptions()),
      networks_(options_.threads),
      recommenders_(options_.data_root, options_.state_dir, options_.threads, DataOptions()),
      language_(fetch_, options_.threads) {}

data::LoadOptions TaskExecutor::DataOptions() const {
  return {.max_memory_bytes = options_.max_dataset_bytes, .cancelled = &cancelled_};
}

void TaskExecutor::Forget() {
  models_.Forget();
  data_.Forget();
  networks_.Forget();
  recommenders_.Forget();
  language_.Forget();
}

absl::StatusOr<Partial> TaskExecutor::RunOnLanguageModel(Surroundings& surroundings,
                                                         const v1::Task& task) {
  if (task.has_activation_statistics()) {
    return language_.RunActivationStatistics(surroundings, task);
  }
  if (task.has_evaluate()) return language_.RunEvaluate(surroundings, task);
  return UnknownKind();
}

absl::StatusOr<Partial> TaskExecutor::RunKind(const v1::Task& task) {
  Surroundings surroundings{data_, networks_, recommenders_, cancelled_, fetch_};
  if (task.model().has_language()) return RunOnLanguageModel(surroundings, task);
  ESPALIER_ASSIGN_OR_RETURN(const auto model, models_.Get(task));
  active_weights_ = model->topology->total_stored();
  if (task.model().spec().has_recommender()) return RunOnRecommender(surroundings, task, model);
  return RunOnNetwork(surroundings, task, model);
}

absl::StatusOr<Partial> TaskExecutor::Run(const v1::Task& task) {
  ESPALIER_ASSIGN_OR_RETURN(
      Partial partial,
      WithinMemory(
          task, options_.memory_limit, [&] { return RunKind(task); }, [this] { Forget(); }));
  partial.header.set_task_id(task.task_id());
  *partial.header.mutable_epoch() = task.epoch();
  partial.header.set_topology_hash(task.model().topology_hash());
  return partial;
}

const char* KindWord(const v1::Task& task) {
  if (task.has_train()) return "train";
  if (task.has_evaluate()) return "evaluate";
  if (task.has_calibrate() || task.has_activation_statistics()) return "calibrate";
  if (task.has_score()) return "score";
  if (task.has_growth()) return "growth";
  if (task.has_recommend()) return "recommend";
  if (task.has_predict()) return "predict";
  if (task.has_channel_statistics()) return "channel_statistics";
  return task.has_echo() ? "echo" : "other";
}

}  // namespace espalier::worker::tasks
