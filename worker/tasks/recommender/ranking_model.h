// RankingModel: a recommender on the interactions of a participant's users.
//
// Private:     rows of users that stay here are joined with the task's tensors before training, and
//              kept when it ends (private_rows.h). Results have the tensors that the coordinator
//              has too, and nothing else.
// Errors:      as model.h; those of Recommenders and PrivateRows; PRIVATE_ROWS_MISSING,
//              PRIVATE_USERS where rows of users are needed that are not here, or would be given
//              away; USER_NOT_FOUND, ITEM_NOT_FOUND, INVALID_K for questions.
#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "worker/tasks/model.h"
#include "worker/tasks/recommender/recommenders.h"
#include "worker/tasks/recommender/round_steps.h"

namespace espalier::worker::tasks {

class RankingModel : public Model {
 public:
  // Borrows the cache.
  RankingModel(const v1::Task& task, std::shared_ptr<const tensor::ModelState> state,
               const std::atomic<bool>& cancelled, Recommenders& recommenders)
      : Model(task, std::move(state), cancelled), recommenders_(recommenders) {}

  std::string_view family() const override { return "recommenders"; }

  absl::StatusOr<TrainingPlan> BeginTraining() override;
  absl::StatusOr<StepSums> TrainStep(int64_t step) override;
  TrainedTensors Trained() override;
  std::vector<float> OptimizerState() override;
  absl::StatusOr<GrowthGradients> GradientsForGrowth() override;
  absl::Status EndTraining() override;

  // Rankings of all items, or of drawn candidates, for each user.
  absl::StatusOr<Partial> Evaluate() override;
  absl::StatusOr<Partial> Recommend() override;
  // One score for each pair of user and item.
  absl::StatusOr<std::vector<float>> Predict(const v1::Examples& examples) override;

 private:
  bool has_private_users() const { return task().model().spec().recommender().private_users(); }
  // What training made of all tensors, those that stay here too.
  const tensor::ModelState& Whole();
  // The engine's model with the values of the task and, with private users, the rows that this
  // round left. `task` is this model's, or that of the participant which has the user.
  absl::StatusOr<recommender::RecommenderModel*> Ranked(const v1::Task& task,
                                                        const ParticipantInteractions& mine);

  Recommenders& recommenders_;

  // While training.
  std::shared_ptr<const ParticipantInteractions> mine_;
  recommender::RecommenderModel* model_ = nullptr;
  std::optional<RoundSteps> steps_;
  std::optional<tensor::ModelState> whole_;
};

}  // namespace espalier::worker::tasks
