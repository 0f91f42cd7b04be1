#include "worker/tasks/models.h"

#include <utility>

#include "common/base/status.h"
#include "worker/tasks/network/network_model.h"
#include "worker/tasks/recommender/ranking_model.h"

namespace espalier::worker::tasks {

Models::Models(ModelOptions options, Fetch fetch, const std::atomic<bool>& cancelled)
    : load_(options.load),
      fetch_(std::move(fetch)),
      cancelled_(cancelled),
      states_(fetch_),
      data_(options.data_root, options.load),
      networks_(options.threads),
      recommenders_(options.data_root, options.state_dir, options.threads, options.load),
      streamed_(fetch_, options.threads) {}

absl::StatusOr<std::unique_ptr<Model>> Models::Get(const v1::Task& task) {
  if (task.model().has_language()) {
    return std::make_unique<StreamedModel>(task, cancelled_, data_, streamed_);
  }
  ESPALIER_ASSIGN_OR_RETURN(auto state, states_.Get(task));
  return Make(task, std::move(state));
}

std::unique_ptr<Model> Models::Make(const v1::Task& task,
                                    std::shared_ptr<const tensor::ModelState> state) {
  if (task.model().spec().has_recommender()) {
    return std::make_unique<RankingModel>(task, std::move(state), cancelled_, recommenders_);
  }
  return std::make_unique<NetworkModel>(task, std::move(state), cancelled_, data_, networks_, load_,
                                        fetch_);
}

void Models::Forget() {
  states_.Forget();
  data_.Forget();
  networks_.Forget();
  recommenders_.Forget();
  streamed_.Forget();
}

}  // namespace espalier::worker::tasks
