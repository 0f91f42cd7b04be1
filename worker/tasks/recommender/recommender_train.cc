// Task kind `train` on a recommender: local steps on a participant's users, rows of users that stay
// here, and gradients for a method that grows by them.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/recommender_layout.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/values_codec.h"
#include "worker/tasks/growth_examples.h"
#include "worker/tasks/recommender/private_update.h"
#include "worker/tasks/recommender/recommender.h"
#include "worker/tasks/recommender/recommender_rows.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {
namespace {

using recommender::RecommenderModel;
using recommender::Step;

// Steps of one round.
class Steps {
 public:
  Steps(const v1::Task& task, const RecommenderModel& model)
      : batch_size_(task.train().training().batch_size()),
        learning_rate_(task.train().learning_rate()),
        seed_(base::StreamKey(task.seed(), "recommender", {static_cast<uint64_t>(task.shard())})) {
    const v1::Training& training = task.train().training();
    if (training.local_steps() > 0) {
      first_ = task.train().first_step();
      count_ = training.local_steps();
      return;
    }
    count_ = model.StepsPerEpoch(batch_size_) * std::max(1, training.local_epochs());
    first_ = (task.round() - 1) * count_;
  }

  int64_t first() const { return first_; }
  int64_t count() const { return count_; }
  // Step `index` of the round, from 0; those past its end are the next round's.
  Step At(int64_t index) const {
    return {.index = first_ + index,
            .batch_size = batch_size_,
            .learning_rate = learning_rate_,
            .seed = seed_};
  }
  // `count` steps from step `index` on.
  std::vector<Step> From(int64_t index, int count) const {
    std::vector<Step> steps;
    for (int i = 0; i < std::max(1, count); ++i) steps.push_back(At(index + i));
    return steps;
  }

 private:
  int64_t batch_size_;
  double learning_rate_;
  uint64_t seed_;
  int64_t first_ = 0;
  int64_t count_ = 0;
};

absl::Status TrainSteps(const std::atomic<bool>& cancelled, const Steps& steps,
                        RecommenderModel& model, Partial& partial) {
  double loss_sum = 0;
  int64_t seen = 0;
  for (int64_t i = 0; i < steps.count(); ++i) {
    if (cancelled) return Cancelled();
    const recommender::StepResult result = model.Train(steps.At(i));
    if (!std::isfinite(result.loss)) return Diverged(i);
    loss_sum += result.loss * static_cast<double>(result.examples);
    seen += result.examples;
  }
  // Workers weigh by their interactions, however many passes they made.
  const int64_t examples = model.train().size();
  partial.header.set_examples(examples);
  partial.header.set_steps(steps.count());
  partial.header.set_loss_sum(loss_sum * static_cast<double>(examples) /
                              static_cast<double>(std::max<int64_t>(1, seen)));
  return absl::OkStatus();
}

// Gradients for the method's next change of the shared tensors: of the step that comes next, at the
// weights after training.
struct Gradients {
  std::vector<float> active;  // at stored positions, of all tensors
  std::vector<sparsity::ScoredPositions> largest;
};

Gradients GradientsForGrowth(const v1::Task& task, const Steps& steps, RecommenderModel& model) {
  const v1::GrowthReport& report =
      wire::AdditionOf(task.train(), v1::TrainAddition::kGrowth).growth();
  Gradients gradients;
  if (!report.active() && report.counts().empty()) return gradients;
  const std::vector<Step> ahead = steps.From(steps.count(), report.batches());
  std::vector<int64_t> counts(report.counts().begin(), report.counts().end());
  counts.resize(model.topology().num_tensors());
  if (report.active()) gradients.active.resize(model.values().size());
  gradients.largest = model.GrowthCandidates(ahead, counts, gradients.active);
  return gradients;
}

// What the task asks for, of the tensors of the structure `shared` alone: others stay here.
// `start` is the model that the task came with, which has those tensors.
absl::Status AddSections(const v1::Task& task, const Steps& steps, const tensor::ModelState& start,
                         const tensor::ModelState& trained, RecommenderModel& model,
                         Partial& partial) {
  const tensor::ModelTopology& shared = *start.topology;
  const int64_t stored = shared.total_stored();
  Gradients gradients = GradientsForGrowth(task, steps, model);
  for (const v1::Section& section : task.sections()) {
    const v1::SectionKind kind = section.kind();
    switch (kind) {
      case v1::SECTION_KIND_VALUES:
        AddSection(kind, std::span(trained.values).first(stored), partial);
        break;
      case v1::SECTION_KIND_DIFFERENCES:
        AddDifferences(task, section, *start.topology, std::span(trained.values).first(stored),
                       start, partial);
        break;
      case v1::SECTION_KIND_OPTIMIZER_STATE: {
        std::vector<float> state;
        for (size_t set = 0; set < trained.optimizer_state.size(); set += trained.values.size()) {
          const auto part = std::span(trained.optimizer_state).subspan(set, stored);
          state.insert(state.end(), part.begin(), part.end());
        }
        AddSection(kind, state, partial);
        break;
      }
      case v1::SECTION_KIND_GRADIENTS:
        if (gradients.active.empty()) return UnknownSection(section);
        AddSection(kind, std::span(gradients.active).first(stored), partial);
        break;
      case v1::SECTION_KIND_GROWTH:
        gradients.largest.resize(shared.num_tensors());
        AddScores(std::move(gradients.largest), shared.layout(), partial);
        break;
      default:
        return UnknownSection(section);
    }
  }
  return absl::OkStatus();
}

const v1::PrivateUpdate& UpdateOf(const v1::Task& task) {
  return wire::AdditionOf(task.train(), v1::TrainAddition::kPrivateUpdate).private_update();
}

// Changes the structure of the rows that only this worker has, by the gradient of the first steps.
absl::StatusOr<tensor::ModelState> UpdatedRows(Surroundings& surroundings, const v1::Task& task,
                                               const tensor::ModelState& shared,
                                               const tensor::ModelState& rows,
                                               const ParticipantInteractions& mine) {
  const v1::PrivateUpdate& update = UpdateOf(task);
  ESPALIER_ASSIGN_OR_RETURN(const tensor::ModelState whole, Join(shared, rows));
  ESPALIER_ASSIGN_OR_RETURN(RecommenderModel * model,
                            surroundings.recommenders.GetModel(task, whole.topology, mine));
  ESPALIER_RETURN_IF_ERROR(model->SetValues(whole.values));
  const Steps steps(task, *model);
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
absl::StatusOr<tensor::ModelState> RowsToBeginWith(Surroundings& surroundings, const v1::Task& task,
                                                   const tensor::ModelState& shared,
                                                   const ParticipantInteractions& mine) {
  const auto users = static_cast<int64_t>(mine.users.size());
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, UserLayout(task, users));
  ESPALIER_ASSIGN_OR_RETURN(auto kept,
                            surroundings.recommenders.rows().Load(task, task.round() - 1, layout));
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
  return UpdatedRows(surroundings, task, shared, *kept, mine);
}

}  // namespace

absl::StatusOr<Partial> RunRecommenderTrain(
    Surroundings& surroundings, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model) {
  ESPALIER_RETURN_IF_ERROR(wire::CheckAdditions(
      task.train(), {v1::TrainAddition::kGrowth, v1::TrainAddition::kPrivateUpdate},
      "recommenders"));
  ESPALIER_ASSIGN_OR_RETURN(const auto mine, surroundings.recommenders.GetInteractions(task));
  if (mine->train->size() == 0) return NoTrainingExamples(task);
  const bool is_private = task.model().spec().recommender().private_users();
  tensor::ModelState whole = *model;
  if (is_private) {
    ESPALIER_ASSIGN_OR_RETURN(const tensor::ModelState rows,
                              RowsToBeginWith(surroundings, task, *model, *mine));
    ESPALIER_ASSIGN_OR_RETURN(whole, Join(*model, rows));
  }
  ESPALIER_ASSIGN_OR_RETURN(RecommenderModel * trained,
                            surroundings.recommenders.GetModel(task, whole.topology, *mine));
  ESPALIER_RETURN_IF_ERROR(trained->SetValues(whole.values));
  const Steps steps(task, *trained);
  if (!whole.optimizer_state.empty()) {
    ESPALIER_RETURN_IF_ERROR(trained->SetOptimizerState(whole.optimizer_state, steps.first()));
  }
  Partial partial;
  ESPALIER_RETURN_IF_ERROR(TrainSteps(surroundings.cancelled, steps, *trained, partial));
  tensor::ModelState result{whole.topology, {}, {}};
  result.values.assign(trained->values().begin(), trained->values().end());
  if (wire::CarriedSlots(task) > 0) {
    result.optimizer_state = trained->optimizer_state();
  }
  ESPALIER_RETURN_IF_ERROR(AddSections(task, steps, *model, result, *trained, partial));
  if (is_private) {
    ESPALIER_ASSIGN_OR_RETURN(const tensor::ModelState rows,
                              RowsOfUsers(result, model->topology->num_tensors()));
    ESPALIER_RETURN_IF_ERROR(surroundings.recommenders.rows().Save(task, rows));
  }
  return partial;
}

}  // namespace espalier::worker::tasks
