#include "worker/tasks/local_data.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/transformer.h"
#include "worker/data/errors.h"

namespace espalier::worker::tasks {
namespace {

// A transformer's outputs are the tokens that it knows.
absl::Status CheckTokens(const data::Dataset& dataset, int64_t vocabulary) {
  if (dataset.num_classes() <= vocabulary) return absl::OkStatus();
  return data::DatasetInvalid(
      dataset.name(),
      {"", fmt::format("tokens below {}, as model.transformer.vocabulary says", vocabulary),
       fmt::format("token {}", dataset.num_classes() - 1),
       fmt::format(
           "set the vocabulary to {} or more (256 for text as bytes), or data.text.tokenizer "
           "to the one of this vocabulary",
           dataset.num_classes())});
}

}  // namespace

absl::StatusOr<ShardView> LocalData::Get(const v1::Task& task) {
  ESPALIER_ASSIGN_OR_RETURN(auto dataset, cache_.Get(task.data()));
  const v1::ModelSpec& model = task.model().spec();
  // Whether text fits a pretrained language model is for its tasks to say.
  if (!task.model().has_language()) {
    ESPALIER_RETURN_IF_ERROR(
        model.has_transformer()
            ? CheckTokens(*dataset, wire::ClassesOf(model))
            : data::CheckFits(*dataset, model.input_features(), wire::ClassesOf(model)));
  }
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
