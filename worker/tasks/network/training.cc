// Training of networks: local sparse SGD on one shard, and what methods ask of it besides.
#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/wire/model_spec/frozen.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/values_codec.h"
#include "worker/tasks/network/batch_buffer.h"
#include "worker/tasks/network/example_order.h"
#include "worker/tasks/network/growth_examples.h"
#include "worker/tasks/network/network_model.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {
namespace {

// Global number of this task's first step, and how many there are.
std::pair<int64_t, int64_t> StepRange(const v1::Task& task, int64_t steps_per_epoch) {
  const v1::Training& training = task.train().training();
  if (training.local_steps() > 0) return {task.train().first_step(), training.local_steps()};
  const int64_t steps = steps_per_epoch * std::max(1, training.local_epochs());
  return {(task.round() - 1) * steps, steps};
}

// The participant's training examples, or the part of them that the task is limited to.
std::vector<int32_t> TrainingExamples(const v1::Task& task, const ShardView& shard) {
  std::vector<int32_t> examples = shard.indices->train;
  const int64_t asked =
      wire::AdditionOf(task.train(), v1::TrainAddition::kExampleLimit).example_limit().examples();
  const auto limit = static_cast<uint64_t>(std::max<int64_t>(0, asked));
  if (limit == 0 || limit >= examples.size()) return examples;
  base::Rng rng(
      base::StreamKey(task.seed(), "example-limit", {static_cast<uint64_t>(task.shard())}));
  base::Shuffle(std::span(examples), rng);
  examples.resize(limit);
  return examples;
}

// A batch norm of single features takes all of one example away: the weights would never change.
absl::Status CheckBatchNorm(const v1::Task& task, size_t examples) {
  if (examples != 1 || !wire::NormalizesSingleValues(task.model().spec())) {
    return absl::OkStatus();
  }
  return base::FailedPrecondition(
      "SHARD_TOO_SMALL",
      "expected at least 2 training examples on shard " + task.participant() +
          ", found 1, of which a batch norm of single features leaves nothing; use fewer shards, "
          "or remove the batch norm");
}

// The trained values, with variance + mean² for each running variance. Running statistics come in
// pairs: means, then variances.
std::vector<float> WithSecondMoments(const engine::Network& network) {
  std::vector<float> values(network.values().begin(), network.values().end());
  const tensor::ModelTopology& topology = *network.topology();
  int64_t mean = -1;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].buffer) continue;
    const int64_t begin = topology.offset(i);
    if (mean < 0) {
      mean = begin;
      continue;
    }
    for (int64_t k = 0; k < topology.stored(i); ++k) {
      values[begin + k] += values[mean + k] * values[mean + k];
    }
    mean = -1;
  }
  return values;
}

}  // namespace

NetworkModel::NetworkModel(const v1::Task& task, std::shared_ptr<const tensor::ModelState> state,
                           const std::atomic<bool>& cancelled, LocalData& data,
                           NetworkCache& networks, const data::LoadOptions& load, FetchBlob fetch)
    : Model(task, std::move(state), cancelled),
      data_(data),
      networks_(networks),
      load_(load),
      fetch_(std::move(fetch)),
      form_(FormOf(task.model().spec())) {}

NetworkModel::~NetworkModel() {
  if (network_ != nullptr) networks_.Forget();
}

absl::StatusOr<ShardView> NetworkModel::Shard() {
  return data_.Get(
      task(), [this](const data::Dataset& dataset) { return form_.CheckFits(dataset, task()); });
}

absl::StatusOr<ShardView> NetworkModel::TrainingShard() {
  ESPALIER_ASSIGN_OR_RETURN(ShardView shard, Shard());
  if (shard.indices->train.empty()) return NoTrainingExamples(task());
  return shard;
}

// The participant's control-variate correction; empty when the task has none.
absl::StatusOr<std::vector<float>> NetworkModel::FetchCorrection() const {
  const v1::TrainAddition& addition =
      wire::AdditionOf(task().train(), v1::TrainAddition::kCorrection);
  if (!addition.has_correction()) return std::vector<float>{};
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, fetch_(addition.correction().values()));
  return wire::DecodeValues(bytes, state().values.size());
}

absl::StatusOr<TrainingPlan> NetworkModel::BeginTraining() {
  using Addition = v1::TrainAddition;
  const v1::TrainTask& train = task().train();
  ESPALIER_RETURN_IF_ERROR(wire::CheckAdditions(
      train,
      {Addition::kGrowth, Addition::kImportance, Addition::kCorrection, Addition::kReadjustment,
       Addition::kExtrusion, Addition::kExampleLimit, Addition::kSecondMoments},
      family()));
  ESPALIER_ASSIGN_OR_RETURN(shard_, TrainingShard());
  const int batch_size = train.training().batch_size();
  training_examples_ = TrainingExamples(task(), shard_);
  ESPALIER_RETURN_IF_ERROR(CheckBatchNorm(task(), training_examples_.size()));
  ESPALIER_ASSIGN_OR_RETURN(network_, NetworkFor(batch_size));
  order_ =
      std::make_unique<ExampleOrder>(training_examples_, task().seed(), task().shard(), batch_size);
  std::tie(first_step_, steps_) = StepRange(task(), order_->steps_per_epoch());
  network_->SetFrozen(wire::FrozenTensors(train.training(), state().topology->layout()));
  if (!state().optimizer_state.empty()) {
    // With epochs, steps of an earlier job lie behind the state alone.
    const int64_t earlier = train.training().local_steps() > 0 ? 0 : train.first_step();
    ESPALIER_RETURN_IF_ERROR(
        network_->SetOptimizerState(state().optimizer_state, earlier + first_step_));
  }
  ESPALIER_ASSIGN_OR_RETURN(correction_, FetchCorrection());
  ESPALIER_RETURN_IF_ERROR(
      network_->SetGradientTerms({.proximal_mu = train.training().proximal_mu(),
                                  .reference = state().values,
                                  .correction = correction_}));
  if (wire::HasAddition(train, Addition::kImportance)) {
    importance_.emplace(state().topology->total_size(),
                        wire::AdditionOf(train, Addition::kImportance).importance().every());
  }
  readjuster_.emplace(train);
  extruder_.emplace(train);
  extruder_->Begin(*network_);
  buffer_ =
      std::make_unique<BatchBuffer>(task(), shard_.dataset->features(), network_->batch_stride());
  // Workers weigh by the size of their shard, however many passes they make.
  return TrainingPlan{
      static_cast<int64_t>(training_examples_.size()) * form_.ColumnsPerExample(task()), steps_};
}

absl::StatusOr<StepSums> NetworkModel::TrainStep(int64_t step) {
  const int64_t global = first_step_ + step;
  const engine::Batch batch = buffer_->Fill(*shard_.dataset, order_->Batch(global));
  buffer_->images.Augment(task().seed(), task().shard(), global, batch.size,
                          buffer_->values.data());
  const uint64_t dropout_key =
      base::StreamKey(task().seed(), "dropout",
                      {static_cast<uint64_t>(task().shard()), static_cast<uint64_t>(global)});
  const double learning_rate = extruder_->LearningRate(step, steps_, *network_);
  const engine::BatchResult result =
      importance_ ? network_->TrainAndSum(batch, learning_rate, dropout_key, importance_->sums())
                  : network_->Train(batch, learning_rate, dropout_key);
  if (importance_) importance_->EndMinibatch();
  if (std::isfinite(result.loss_sum) && readjuster_->IsDue(step, steps_)) {
    // Of the same examples, but as they are.
    const engine::Batch last = buffer_->Fill(*shard_.dataset, order_->Batch(global));
    ESPALIER_RETURN_IF_ERROR(readjuster_->Readjust(last, *network_));
  }
  return StepSums{result.loss_sum, result.correct, batch.size};
}

TrainedTensors NetworkModel::Trained() {
  if (!wire::HasAddition(task().train(), v1::TrainAddition::kSecondMoments)) {
    return {network_->topology(), network_->values()};
  }
  if (second_moments_.empty()) second_moments_ = WithSecondMoments(*network_);
  return {network_->topology(), second_moments_};
}

absl::StatusOr<GrowthGradients> NetworkModel::GradientsForGrowth() {
  const v1::TrainTask& train = task().train();
  const v1::GrowthReport& report = wire::AdditionOf(train, v1::TrainAddition::kGrowth).growth();
  GrowthGradients result;
  if (!report.active() && report.counts().empty()) return result;
  const GrowthExamples examples(task(), shard_, *network_, train.training().batch_size(),
                                report.batches());
  std::vector<int64_t> counts(report.counts().begin(), report.counts().end());
  counts.resize(network_->topology()->num_tensors());
  if (report.active()) result.active.resize(network_->values().size());
  result.largest = network_->GrowthCandidates(examples.batches(), counts, result.active);
  return result;
}

absl::StatusOr<std::vector<float>> NetworkModel::Importance() {
  if (!importance_) return std::vector<float>{};
  return importance_->Take();
}

absl::StatusOr<std::string> NetworkModel::StructureUpdate() {
  return readjuster_->Encode(*state().topology);
}

absl::Status NetworkModel::EndTraining() {
  network_ = nullptr;
  return absl::OkStatus();
}

}  // namespace espalier::worker::tasks
