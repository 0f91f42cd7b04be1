#include "worker/tasks/recommender/recommenders.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/base/status.h"
#include "worker/data/interactions/fields.h"
#include "worker/tasks/network/network_cache.h"

namespace espalier::worker::tasks {
namespace {

absl::Status WrongSize(const char* field, int64_t found, int64_t expected) {
  return base::FailedPrecondition(
      "DATASET_SHAPE_MISMATCH",
      fmt::format("expected model.recommender.{} = {}, as many as the data set has after its "
                  "filters, found {}; set it so",
                  field, expected, found));
}

absl::Status CheckSizes(const v1::Task& task, const data::InteractionData& data) {
  const v1::RecommenderSpec& model = task.model().spec().recommender();
  if (task.data().partition().kind() == v1::Partition::KIND_LOCAL) {
    // Each worker has users of its own, and may lack the last items.
    return data.items <= model.items() ? absl::OkStatus()
                                       : WrongSize("items", model.items(), data.items);
  }
  if (data.items != model.items()) return WrongSize("items", model.items(), data.items);
  return data.users == model.users() ? absl::OkStatus()
                                     : WrongSize("users", model.users(), data.users);
}

// Rows `rows` of `lists`; with `all_users`, the others as empty rows. A second list is merged in.
absl::StatusOr<recommender::Interactions> RowsOf(int64_t items, int32_t all_users,
                                                 const std::vector<int32_t>& rows,
                                                 const data::ItemLists& lists,
                                                 const data::ItemLists* more = nullptr) {
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> columns;
  const auto fill_to = [&](int64_t row) {
    while (static_cast<int64_t>(offsets.size()) <= row) offsets.push_back(offsets.back());
  };
  for (const int32_t user : rows) {
    if (all_users > 0) fill_to(user);
    const auto first = lists.row(user);
    const auto second = more == nullptr ? std::span<const int32_t>() : more->row(user);
    std::merge(first.begin(), first.end(), second.begin(), second.end(),
               std::back_inserter(columns));
    offsets.push_back(static_cast<int64_t>(columns.size()));
  }
  fill_to(all_users);
  return recommender::Interactions::Create(items, std::move(offsets), std::move(columns));
}

// Reads what AutoInt knows besides the ids, for the users of `mine`.
absl::Status AddFields(const std::string& data_root, const data::LoadOptions& options,
                       const v1::Task& task, ParticipantInteractions& mine) {
  const v1::AutoIntModel& model = task.model().spec().recommender().autoint();
  if (model.fields().empty()) return absl::OkStatus();
  const bool local = task.data().partition().kind() == v1::Partition::KIND_LOCAL;
  ESPALIER_ASSIGN_OR_RETURN(const auto lists,
                            data::LoadFields(data_root, *mine.data, model, local, options));
  std::vector<int32_t> items(mine.data->items);
  std::iota(items.begin(), items.end(), 0);
  for (int i = 0; i < model.fields_size(); ++i) {
    const v1::AutoIntField& field = model.fields(i);
    // With local data the model may have items that this worker has not.
    const auto all =
        static_cast<int32_t>(field.of_items() ? task.model().spec().recommender().items() : 0);
    ESPALIER_ASSIGN_OR_RETURN(
        auto values, RowsOf(field.values(), all, field.of_items() ? items : mine.users, lists[i]));
    mine.fields.push_back(std::make_shared<const recommender::Interactions>(std::move(values)));
  }
  return absl::OkStatus();
}

}  // namespace

void Recommenders::Forget() {
  model_ = nullptr;
  mine_ = nullptr;
  data_ = nullptr;
}

absl::StatusOr<std::shared_ptr<const data::InteractionData>> Recommenders::GetData(
    const v1::Task& task) {
  const std::string data_key = task.data().SerializeAsString() + "/" + std::to_string(task.seed());
  if (data_ == nullptr || data_key != data_key_) {
    mine_ = nullptr;
    data_ = nullptr;
    ESPALIER_ASSIGN_OR_RETURN(
        data_, data::LoadInteractions(data_root_, task.data(), task.seed(), options_));
    data_key_ = data_key;
  }
  ESPALIER_RETURN_IF_ERROR(CheckSizes(task, *data_));
  return data_;
}

absl::StatusOr<std::shared_ptr<const ParticipantInteractions>> Recommenders::GetInteractions(
    const v1::Task& task) {
  ESPALIER_RETURN_IF_ERROR(GetData(task).status());
  const v1::RecommenderSpec& model = task.model().spec().recommender();
  // A single shard is the whole, so that evaluation keeps the lists and model of training.
  const bool whole = task.evaluate().whole_test_split() || task.has_predict() ||
                     (task.has_recommend() && !model.private_users()) ||
                     task.data().partition().shards() == 1;
  const std::string key =
      fmt::format("{}/{}/{}/{}/{}", data_key_, whole ? "whole" : std::to_string(task.shard()),
                  model.items(), model.private_users(), model.autoint().SerializeAsString());
  if (mine_ != nullptr && key == mine_key_) return mine_;
  mine_ = nullptr;
  auto mine = std::make_shared<ParticipantInteractions>();
  mine->data = data_;
  if (whole) {
    mine->users.resize(data_->users);
    std::iota(mine->users.begin(), mine->users.end(), 0);
  } else {
    ESPALIER_ASSIGN_OR_RETURN(mine->users, data::UsersOfShard(data_->users, task.data().partition(),
                                                              task.seed(), task.shard()));
  }
  const int32_t all = model.private_users() ? 0 : data_->users;
  const int64_t items = model.items();
  ESPALIER_ASSIGN_OR_RETURN(auto train, RowsOf(items, all, mine->users, data_->train));
  mine->train = std::make_shared<const recommender::Interactions>(std::move(train));
  ESPALIER_ASSIGN_OR_RETURN(mine->had,
                            RowsOf(items, all, mine->users, data_->train, &data_->known));
  ESPALIER_ASSIGN_OR_RETURN(mine->asked, RowsOf(items, all, mine->users, data_->asked));
  if (all > 0) {
    mine->users.resize(all);
    std::iota(mine->users.begin(), mine->users.end(), 0);
  }
  ESPALIER_RETURN_IF_ERROR(AddFields(data_root_, options_, task, *mine));
  mine_ = std::move(mine);
  mine_key_ = key;
  return mine_;
}

absl::StatusOr<recommender::RecommenderModel*> Recommenders::GetModel(
    const v1::Task& task, std::shared_ptr<const tensor::ModelTopology> topology,
    const ParticipantInteractions& mine) {
  const std::string key = topology->hash() + "/" + mine_key_ + "/" +
                          task.model().spec().recommender().SerializeAsString();
  // Only training needs an optimizer and batches; everything else takes the model that trained.
  const v1::Training& training = task.train().training();
  const std::string trained =
      task.has_train()
          ? fmt::format("{}/{}", training.batch_size(), training.optimizer().SerializeAsString())
          : trained_;
  if (model_ != nullptr && key == model_key_ && trained == trained_ &&
      &model_->train() == mine.train.get()) {
    return model_.get();
  }
  model_ = nullptr;
  ESPALIER_ASSIGN_OR_RETURN(
      model_, recommender::RecommenderModel::Create(
                  task.model().spec().recommender(), OptimizerSpecOf(training.optimizer()),
                  std::move(topology), mine.train, std::max(1, training.batch_size()), threads_,
                  mine.fields));
  model_key_ = key;
  // A model made for something else cannot train, whatever trained before it.
  trained_ = task.has_train() ? trained : "";
  return model_.get();
}

}  // namespace espalier::worker::tasks
