#include "worker/tasks/local_data.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/transformer.h"
#include "worker/data/errors.h"

namespace espalier::worker::tasks {
namespace {

// Means and deviations are one for each channel, or none.
absl::Status CheckNormalization(const v1::Task& task) {
  const int64_t channels = wire::InputShape(task.model().spec()).channels;
  const int means = task.data().channel_mean_size();
  const int deviations = task.data().channel_std_size();
  if (means == deviations && (means == 0 || means == channels)) return absl::OkStatus();
  return base::InvalidArgument(
      "DATASET_SHAPE_MISMATCH",
      fmt::format("expected data.channel_mean and data.channel_std for each of {} channels, or "
                  "neither, found {} and {}",
                  channels, means, deviations));
}

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
    const bool text = model.has_transformer();
    if (text) ESPALIER_RETURN_IF_ERROR(CheckTokens(*dataset, wire::ClassesOf(model)));
    const int64_t inputs = text ? task.data().text().context() : model.input_features();
    // Labels do not matter to a network that learns its input.
    const bool autoencoder = task.data().target() == v1::DataSpec::TARGET_INPUT;
    const int64_t outputs = autoencoder ? dataset->num_classes() : wire::ClassesOf(model);
    ESPALIER_RETURN_IF_ERROR(data::CheckFits(*dataset, inputs, outputs));
    ESPALIER_RETURN_IF_ERROR(CheckNormalization(task));
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
