#include "worker/tasks/local_data.h"

#include <utility>

#include "common/base/status.h"

namespace espalier::worker::tasks {

absl::StatusOr<ShardView> LocalData::Get(const v1::Task& task, const Fits& fits) {
  ESPALIER_ASSIGN_OR_RETURN(auto dataset, cache_.Get(task.data()));
  ESPALIER_RETURN_IF_ERROR(fits(*dataset));
  const bool whole = task.evaluate().whole_test_split();
  const std::string key = task.data().SerializeAsString() + "/" + std::to_string(task.seed()) +
                          "/" + (whole ? "whole" : std::to_string(task.shard()));
  for (const Kept& kept : kept_) {
    if (kept.key == key && kept.dataset == dataset) return ShardView{dataset, kept.indices};
  }
  ESPALIER_ASSIGN_OR_RETURN(
      data::ShardIndices indices,
      whole ? data::SplitDataset(*dataset, task.data(), task.seed())
            : data::MakeShard(*dataset, task.data(), task.seed(), task.shard(), options_));
  auto shared = std::make_shared<const data::ShardIndices>(std::move(indices));
  kept_.push_back({key, dataset, shared});
  // Index lists of a data set that was replaced are of no use any more.
  std::erase_if(kept_, [&](const Kept& kept) { return kept.dataset != dataset; });
  if (kept_.size() > kKeptShards) kept_.pop_front();
  return ShardView{dataset, shared};
}

void LocalData::Forget() {
  kept_.clear();
  cache_.Clear();
}

}  // namespace espalier::worker::tasks
