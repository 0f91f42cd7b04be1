// Models: the one place where the model of a task is made, of whatever family; and all that a
// worker keeps from task to task.
//
// Ownership:   keeps copies of options and `fetch`; borrows `cancelled`.
// Threading:   one task at a time.
// Errors:      those of ModelCache, and of `fetch`.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"
#include "worker/data/load.h"
#include "worker/tasks/language/streamed_models.h"
#include "worker/tasks/local_data.h"
#include "worker/tasks/model.h"
#include "worker/tasks/model_cache.h"
#include "worker/tasks/network/network_cache.h"
#include "worker/tasks/recommender/recommenders.h"

namespace espalier::worker::tasks {

struct ModelOptions {
  std::string data_root = {};
  std::string state_dir = {};  // for rows of users that stay here; empty: such jobs are refused
  int threads = 1;
  data::LoadOptions load = {};
};

class Models {
 public:
  // The bytes of a blob, checked against its digest.
  using Fetch = std::function<absl::StatusOr<std::string>(const v1::BlobRef&)>;

  Models(ModelOptions options, Fetch fetch, const std::atomic<bool>& cancelled);

  // The model of `task`, whose values are fetched unless they are at hand. Borrows the task and
  // what is kept here: one model at a time.
  absl::StatusOr<std::unique_ptr<Model>> Get(const v1::Task& task);
  // The same with these values; not of a language model in parts.
  std::unique_ptr<Model> Make(const v1::Task& task,
                              std::shared_ptr<const tensor::ModelState> state);
  // Lets go of all that is kept from task to task.
  void Forget();

 private:
  const data::LoadOptions load_;
  const Fetch fetch_;
  const std::atomic<bool>& cancelled_;
  ModelCache states_;
  LocalData data_;
  NetworkCache networks_;
  Recommenders recommenders_;
  StreamedModels streamed_;
};

}  // namespace espalier::worker::tasks
