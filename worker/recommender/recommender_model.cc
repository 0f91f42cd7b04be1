#include "worker/recommender/recommender_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/wire/model_spec/recommender_layout.h"
#include "worker/engine/optimizer.h"
#include "worker/recommender/autoint.h"
#include "worker/recommender/lightgcn.h"
#include "worker/recommender/multvae.h"
#include "worker/recommender/neumf.h"
#include "worker/recommender/sinks.h"

namespace espalier::worker::recommender {
namespace {

absl::Status ShapeError(const std::string& message) {
  return base::InvalidArgument("SHAPE_MISMATCH", message);
}

absl::Status CheckLayout(const v1::RecommenderSpec& spec, const tensor::ModelLayout& layout,
                         int64_t users) {
  ESPALIER_ASSIGN_OR_RETURN(auto expected, wire::RecommenderTensors(spec));
  if (spec.private_users()) {
    ESPALIER_ASSIGN_OR_RETURN(auto of_users, wire::UserTensors(spec, users));
    std::ranges::move(of_users, std::back_inserter(expected));
  }
  if (layout.size() != expected.size()) {
    return ShapeError(fmt::format("expected {} tensors, found {}", expected.size(), layout.size()));
  }
  for (size_t i = 0; i < layout.size(); ++i) {
    if (layout[i].rows == expected[i].spec.rows && layout[i].cols == expected[i].spec.cols)
      continue;
    return ShapeError(fmt::format("tensor {}: expected {} × {}, found {} × {}",
                                  expected[i].spec.name, expected[i].spec.rows,
                                  expected[i].spec.cols, layout[i].rows, layout[i].cols));
  }
  return absl::OkStatus();
}

absl::Status CheckInteractions(const v1::RecommenderSpec& spec, const Interactions& train) {
  if (train.items() != spec.items() ||
      (!spec.private_users() && !spec.has_multvae() && train.users() != spec.users())) {
    return ShapeError(fmt::format(
        "the model has {} users and {} items, the interactions have {} and {}; set recommender."
        "users and recommender.items to those of the data set",
        spec.users(), spec.items(), train.users(), train.items()));
  }
  if (train.size() > 0) return absl::OkStatus();
  return base::InvalidArgument("NO_INTERACTIONS",
                               "expected at least one user with a training item, found none");
}

absl::Status CheckFields(const v1::AutoIntModel& spec, const Interactions& train,
                         const std::vector<std::shared_ptr<const Interactions>>& fields) {
  if (static_cast<int>(fields.size()) != spec.fields_size()) {
    return ShapeError(
        fmt::format("the model has {} fields besides users and items, the data set {}; give "
                    "autoint.fields those "
                    "of the data set",
                    spec.fields_size(), fields.size()));
  }
  for (int i = 0; i < spec.fields_size(); ++i) {
    const int64_t rows = spec.fields(i).of_items() ? train.items() : train.users();
    if (fields[i]->users() == rows && fields[i]->items() == spec.fields(i).values()) continue;
    return ShapeError(fmt::format("field {}: expected {} {} with values below {}, found {} and {}",
                                  i, rows, spec.fields(i).of_items() ? "items" : "users",
                                  spec.fields(i).values(), fields[i]->users(), fields[i]->items()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<RecommenderModel>> RecommenderModel::Create(
    const v1::RecommenderSpec& spec, const engine::OptimizerSpec& optimizer,
    std::shared_ptr<const tensor::ModelTopology> topology,
    std::shared_ptr<const Interactions> train, int64_t max_batch, int threads,
    std::vector<std::shared_ptr<const Interactions>> fields) {
  ESPALIER_RETURN_IF_ERROR(engine::ValidateOptimizer(optimizer));
  const v1::RecommenderSpec model = wire::ExplicitRecommender(spec);
  ESPALIER_RETURN_IF_ERROR(CheckInteractions(model, *train));
  ESPALIER_RETURN_IF_ERROR(CheckLayout(model, topology->layout(), train->users()));
  if (max_batch < 1 || threads < 1) {
    return ShapeError(fmt::format("expected batches and threads of at least 1, found {} and {}",
                                  max_batch, threads));
  }
  ESPALIER_RETURN_IF_ERROR(CheckFields(model.autoint(), *train, fields));
  const ModelParts parts = {optimizer, std::move(topology), std::move(train), max_batch,
                            threads,   std::move(fields)};
  if (model.has_lightgcn()) return MakeLightGcn(model.lightgcn(), parts);
  if (model.has_neumf()) return MakeNeuMf(model.neumf(), parts);
  if (model.has_autoint()) return MakeAutoInt(model.autoint(), parts);
  return MakeMultVae(model.multvae(), parts);
}

RecommenderModel::RecommenderModel(const ModelParts& parts)
    : topology_(parts.topology),
      train_(parts.train),
      max_batch_(parts.max_batch),
      threads_(parts.threads),
      values_(topology_->total_stored()) {
  tensors_ = engine::RowTensorsOf(*topology_, values_.data());
  for (const RowTensor& tensor : tensors_) optimizers_.emplace_back(parts.optimizer, tensor);
}

absl::Status RecommenderModel::SetValues(std::span<const float> values) {
  if (values.size() != values_.size()) {
    return ShapeError(fmt::format("expected {} values, found {}", values_.size(), values.size()));
  }
  std::ranges::copy(values, values_.begin());
  for (RowOptimizer& optimizer : optimizers_) optimizer.Reset();
  steps_ = 0;
  return absl::OkStatus();
}

absl::Status RecommenderModel::SetOptimizerState(std::span<const float> state, int64_t steps) {
  const size_t expected = optimizers_.front().slots() * values_.size();
  if (state.size() != expected) {
    return ShapeError(
        fmt::format("expected optimizer state of {} values, found {}", expected, state.size()));
  }
  for (size_t i = 0; i < optimizers_.size(); ++i) {
    optimizers_[i].Load(state, topology_->offset(i), static_cast<int64_t>(values_.size()));
  }
  steps_ = steps;
  return absl::OkStatus();
}

std::vector<float> RecommenderModel::optimizer_state() const {
  std::vector<float> state(optimizers_.front().slots() * values_.size());
  for (size_t i = 0; i < optimizers_.size(); ++i) {
    optimizers_[i].Store(state, topology_->offset(i), static_cast<int64_t>(values_.size()));
  }
  return state;
}

void RecommenderModel::SetFrozen(const std::vector<bool>& tensors) {
  for (size_t i = 0; i < optimizers_.size(); ++i) optimizers_[i].SetFrozen(tensors[i]);
}

int64_t RecommenderModel::RowsWithSlots(size_t tensor) const {
  return optimizers_[tensor].RowsWithSlots();
}

StepResult RecommenderModel::LearnChecked(const Step& step, RowSink& sink) {
  ESPALIER_CHECK(step.batch_size >= 1 && step.batch_size <= max_batch_ && step.index >= 0,
                 "a step has a batch size of 1 to max_batch");
  return Learn(step, sink);
}

StepResult RecommenderModel::Train(const Step& step) {
  UpdateSink sink(optimizers_, step.learning_rate, ++steps_);
  const StepResult result = LearnChecked(step, sink);
  for (RowOptimizer& optimizer : optimizers_)
    optimizer.EndStep(step.learning_rate, steps_, threads_);
  return result;
}

StepResult RecommenderModel::Gradients(const Step& step, std::span<float> gradients) {
  ESPALIER_CHECK(gradients.size() == values_.size(), "one gradient for every value");
  std::ranges::fill(gradients, 0.0F);
  CollectSink sink(tensors_, gradients);
  return LearnChecked(step, sink);
}

std::vector<sparsity::ScoredPositions> RecommenderModel::GrowthCandidates(
    std::span<const Step> steps, std::span<const int64_t> counts_per_tensor,
    std::span<float> active) {
  ESPALIER_CHECK(counts_per_tensor.size() == tensors_.size(),
                 "one count is needed for every tensor");
  ESPALIER_CHECK(active.empty() || active.size() == values_.size(), "one gradient for every value");
  std::ranges::fill(active, 0.0F);
  GrowthSink sink(tensors_, counts_per_tensor, steps.size() > 1, active);
  for (const Step& step : steps) LearnChecked(step, sink);
  return sink.Take();
}

}  // namespace espalier::worker::recommender
