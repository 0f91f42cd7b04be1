// What tasks on recommenders share: the interactions of a participant, the model that was trained
// last, and rows of users that stay here.
//
// Numbers:     without private users a participant's lists have rows for all users of the data set,
//              empty where the user is on another shard; with private users only for its own.
// Memory:      one data set, its lists for one participant, and one model.
// Threading:   one task at a time.
// Determinism: as task.h. A round's training starts from the private rows that the round before
//              left, however often it is begun.
// Errors:      those of worker/data; DATASET_SHAPE_MISMATCH when the data does not fit the model;
//              STATE_DIR_MISSING, STATE_CORRUPT for private rows.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"
#include "worker/data/interactions/interactions.h"
#include "worker/recommender/interactions.h"
#include "worker/recommender/recommender_model.h"
#include "worker/tasks/recommender/private_rows.h"

namespace espalier::worker::tasks {

// What one participant trains and is evaluated on. Rows of the three lists are the same users.
struct ParticipantInteractions {
  std::shared_ptr<const data::InteractionData> data;
  std::vector<int32_t> users;  // the data set's number of each row
  std::shared_ptr<const recommender::Interactions> train;
  recommender::Interactions had;    // training and known items: never asked for
  recommender::Interactions asked;  // what evaluation looks for
  // AutoInt: values of each field, of the users of the rows or of all items.
  std::vector<std::shared_ptr<const recommender::Interactions>> fields;
};

class Recommenders {
 public:
  // `state_dir` is where private rows are kept; empty: such jobs are refused.
  Recommenders(std::string data_root, std::string state_dir, int threads,
               const data::LoadOptions& options = {})
      : data_root_(std::move(data_root)),
        options_(options),
        rows_(std::move(state_dir)),
        threads_(threads) {}

  // The whole data set.
  absl::StatusOr<std::shared_ptr<const data::InteractionData>> GetData(const v1::Task& task);

  absl::StatusOr<std::shared_ptr<const ParticipantInteractions>> GetInteractions(
      const v1::Task& task);

  // A model of this structure; its values are to be set. `mine` must stay alive as long.
  absl::StatusOr<recommender::RecommenderModel*> GetModel(
      const v1::Task& task, std::shared_ptr<const tensor::ModelTopology> topology,
      const ParticipantInteractions& mine);

  // Lets go of what is kept in memory.
  void Forget();

  PrivateRows& rows() { return rows_; }
  int threads() const { return threads_; }

 private:
  std::string data_root_;
  data::LoadOptions options_;
  PrivateRows rows_;
  int threads_;
  std::string data_key_;
  std::shared_ptr<const data::InteractionData> data_;
  std::string mine_key_;
  std::shared_ptr<const ParticipantInteractions> mine_;
  std::string model_key_;
  std::string trained_;  // batch size and optimizer
  std::unique_ptr<recommender::RecommenderModel> model_;
};

}  // namespace espalier::worker::tasks
