// Training of recommenders: local steps on a participant's users, rows of users that stay here, and
// gradients for a method that grows by them.
#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/model_spec/frozen.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/recommender_layout.h"
#include "common/wire/model_spec/train_additions.h"
#include "worker/tasks/recommender/private_update.h"
#include "worker/tasks/recommender/ranking_model.h"
#include "worker/tasks/recommender/recommender_rows.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {
namespace {

using recommender::RecommenderModel;
using recommender::Step;

const v1::PrivateUpdate& UpdateOf(const v1::Task& task) {
  return wire::AdditionOf(task.train(), v1::TrainAddition::kPrivateUpdate).private_update();
}

// Changes the structure of the rows that only this worker has, by the gradient of the first steps.
absl::StatusOr<tensor::ModelState> UpdatedRows(Recommenders& recommenders, const v1::Task& task,
                                               const tensor::ModelState& shared,
                                               const tensor::ModelState& rows,
                                               const ParticipantInteractions& mine) {
  const v1::PrivateUpdate& update = UpdateOf(task);
  ESPALIER_ASSIGN_OR_RETURN(const tensor::ModelState whole, Join(shared, rows));
  ESPALIER_ASSIGN_OR_RETURN(RecommenderModel * model,
                            recommenders.GetModel(task, whole.topology, mine));
  ESPALIER_RETURN_IF_ERROR(model->SetValues(whole.values));
  const RoundSteps steps(task, *model);
  const std::vector<Step> ahead = steps.From(0, update.batches());
  const size_t first = shared.topology->num_tensors();
  std::vector<int64_t> counts(whole.topology->num_tensors());
  for (size_t i = first; i < counts.size() && !update.grow_random(); ++i) {
    if (whole.topology->is_sparse(i)) {
      counts[i] = ReplacedWeights(update, whole.topology->stored(i));
    }
  }
  std::vector<float> gradients(whole.values.size());
  auto candidates = model->GrowthCandidates(ahead, counts, gradients);
  candidates.erase(candidates.begin(), candidates.begin() + static_cast<int64_t>(first));
  const uint64_t key =
      base::StreamKey(task.seed(), "private-grow",
                      {static_cast<uint64_t>(task.shard()), static_cast<uint64_t>(task.round())});
  return ChangeRows(update, rows, std::span(gradients).subspan(shared.topology->total_stored()),
                    candidates, key);
}

// The rows a round begins with: those that the round before left, or new ones; changed where the
// method says so.
absl::StatusOr<tensor::ModelState> RowsToBeginWith(Recommenders& recommenders, const v1::Task& task,
                                                   const tensor::ModelState& shared,
                                                   const ParticipantInteractions& mine) {
  const auto users = static_cast<int64_t>(mine.users.size());
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, UserLayout(task, users));
  ESPALIER_ASSIGN_OR_RETURN(auto kept, recommenders.rows().Load(task, task.round() - 1, layout));
  if (!kept.has_value()) {
    if (task.round() > 1) {
      log::Warning("private_rows_begin_anew", {{"job", task.job()},
                                               {"participant", task.participant()},
                                               {"round", task.round()},
                                               {"users", users}});
    }
    return PrivateRows::Initial(task, layout, users);
  }
  if (UpdateOf(task).fraction() <= 0) return *std::move(kept);
  return UpdatedRows(recommenders, task, shared, *kept, mine);
}

}  // namespace

absl::StatusOr<TrainingPlan> RankingModel::BeginTraining() {
  ESPALIER_RETURN_IF_ERROR(wire::CheckAdditions(
      task().train(), {v1::TrainAddition::kGrowth, v1::TrainAddition::kPrivateUpdate}, family()));
  ESPALIER_ASSIGN_OR_RETURN(mine_, recommenders_.GetInteractions(task()));
  if (mine_->train->size() == 0) return NoTrainingExamples(task());
  tensor::ModelState whole = state();
  if (has_private_users()) {
    ESPALIER_ASSIGN_OR_RETURN(const tensor::ModelState rows,
                              RowsToBeginWith(recommenders_, task(), state(), *mine_));
    ESPALIER_ASSIGN_OR_RETURN(whole, Join(state(), rows));
  }
  ESPALIER_ASSIGN_OR_RETURN(model_, recommenders_.GetModel(task(), whole.topology, *mine_));
  ESPALIER_RETURN_IF_ERROR(model_->SetValues(whole.values));
  model_->SetFrozen(wire::FrozenTensors(task().train().training(), whole.topology->layout()));
  steps_.emplace(task(), *model_);
  if (!whole.optimizer_state.empty()) {
    ESPALIER_RETURN_IF_ERROR(model_->SetOptimizerState(whole.optimizer_state, steps_->first()));
  }
  whole.values.clear();
  whole_.emplace(tensor::ModelState{whole.topology, {}, {}});
  // Workers weigh by their interactions, however many passes they make.
  return TrainingPlan{model_->train().size(), steps_->count()};
}

absl::StatusOr<StepSums> RankingModel::TrainStep(int64_t step) {
  const recommender::StepResult result = model_->Train(steps_->At(step));
  return StepSums{result.loss * static_cast<double>(result.examples), 0, result.examples};
}

const tensor::ModelState& RankingModel::Whole() {
  if (!whole_->values.empty()) return *whole_;
  whole_->values.assign(model_->values().begin(), model_->values().end());
  if (wire::CarriedSlots(task()) > 0) whole_->optimizer_state = model_->optimizer_state();
  return *whole_;
}

TrainedTensors RankingModel::Trained() {
  return {state().topology, std::span(Whole().values).first(state().topology->total_stored())};
}

std::vector<float> RankingModel::OptimizerState() {
  const tensor::ModelState& whole = Whole();
  const int64_t stored = state().topology->total_stored();
  std::vector<float> shared;
  for (size_t set = 0; set < whole.optimizer_state.size(); set += whole.values.size()) {
    const auto part = std::span(whole.optimizer_state).subspan(set, stored);
    shared.insert(shared.end(), part.begin(), part.end());
  }
  return shared;
}

// Gradients of the step that comes next, at the weights after training.
absl::StatusOr<GrowthGradients> RankingModel::GradientsForGrowth() {
  const v1::GrowthReport& report =
      wire::AdditionOf(task().train(), v1::TrainAddition::kGrowth).growth();
  GrowthGradients gradients;
  if (!report.active() && report.counts().empty()) return gradients;
  const std::vector<Step> ahead = steps_->From(steps_->count(), report.batches());
  std::vector<int64_t> counts(report.counts().begin(), report.counts().end());
  counts.resize(model_->topology().num_tensors());
  if (report.active()) gradients.active.resize(model_->values().size());
  gradients.largest = model_->GrowthCandidates(ahead, counts, gradients.active);
  // Those of rows that stay here are nobody else's.
  gradients.largest.resize(state().topology->num_tensors());
  if (report.active()) gradients.active.resize(state().topology->total_stored());
  return gradients;
}

absl::Status RankingModel::EndTraining() {
  if (!has_private_users()) return absl::OkStatus();
  ESPALIER_ASSIGN_OR_RETURN(const tensor::ModelState rows,
                            RowsOfUsers(Whole(), state().topology->num_tensors()));
  return recommenders_.rows().Save(task(), rows);
}

}  // namespace espalier::worker::tasks
