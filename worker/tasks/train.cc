// Task kind `train`: local sparse SGD on one shard, and the streamed top-K gradient at inactive
// positions when the method grows by it.
#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/values_codec.h"
#include "worker/tasks/batch_buffer.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {
namespace {

// Examples of a shard in the order of training: a fresh permutation for each epoch, so that step s
// of the whole job always sees the same examples, whichever worker does it.
class ExampleOrder {
 public:
  ExampleOrder(std::span<const int32_t> examples, uint64_t seed, int shard, int64_t batch_size)
      : examples_(examples), seed_(seed), shard_(shard), batch_size_(batch_size) {}

  int64_t steps_per_epoch() const {
    return (static_cast<int64_t>(examples_.size()) + batch_size_ - 1) / batch_size_;
  }

  std::span<const int32_t> Batch(int64_t step) {
    const int64_t epoch = step / steps_per_epoch();
    if (epoch != epoch_) Permute(epoch);
    const int64_t begin = (step % steps_per_epoch()) * batch_size_;
    const int64_t size = std::min(batch_size_, static_cast<int64_t>(order_.size()) - begin);
    return std::span(order_).subspan(begin, size);
  }

 private:
  void Permute(int64_t epoch) {
    epoch_ = epoch;
    order_.assign(examples_.begin(), examples_.end());
    base::Rng rng(base::StreamKey(seed_, "order",
                                  {static_cast<uint64_t>(shard_), static_cast<uint64_t>(epoch)}));
    base::Shuffle(std::span(order_), rng);
  }

  std::span<const int32_t> examples_;
  uint64_t seed_;
  int shard_;
  int64_t batch_size_;
  int64_t epoch_ = -1;
  std::vector<int32_t> order_;
};

absl::Status Diverged(int64_t step) {
  return base::FailedPrecondition(
      "NON_FINITE", "expected a finite loss, found none at local step " + std::to_string(step + 1) +
                        ": training diverges; lower training.optimizer.learning_rate");
}

// Global number of this task's first step, and how many there are.
std::pair<int64_t, int64_t> StepRange(const v1::Task& task, int64_t steps_per_epoch) {
  const v1::Training& training = task.train().training();
  if (training.local_steps() > 0) return {task.train().first_step(), training.local_steps()};
  const int64_t steps = steps_per_epoch * std::max(1, training.local_epochs());
  return {(task.round() - 1) * steps, steps};
}

struct TrainSummary {
  double loss_sum = 0;
  int64_t correct = 0;
  int64_t seen = 0;
};

absl::StatusOr<TrainSummary> TrainSteps(Surroundings& surroundings, const v1::Task& task,
                                        const ShardView& shard, ExampleOrder& order,
                                        engine::Network& network) {
  BatchBuffer buffer(task, shard.dataset->features(), network.batch_stride());
  const auto [first, count] = StepRange(task, order.steps_per_epoch());
  TrainSummary summary;
  for (int64_t step = first; step < first + count; ++step) {
    if (surroundings.cancelled) return Cancelled();
    const engine::Batch batch = buffer.Fill(*shard.dataset, order.Batch(step));
    buffer.images.Augment(task.seed(), task.shard(), step, batch.size, buffer.values.data());
    const uint64_t dropout_key = base::StreamKey(
        task.seed(), "dropout", {static_cast<uint64_t>(task.shard()), static_cast<uint64_t>(step)});
    const engine::BatchResult result =
        network.Train(batch, task.train().learning_rate(), dropout_key);
    if (!std::isfinite(result.loss_sum)) return Diverged(step - first);
    summary.loss_sum += result.loss_sum;
    summary.correct += result.correct;
    summary.seen += batch.size;
  }
  return summary;
}

// Gradients at inactive positions of batches drawn anew from the shard, at the weights after
// training.
std::string GrowthScores(const v1::Task& task, const ShardView& shard, engine::Network& network,
                         const tensor::ModelLayout& layout) {
  const v1::TrainTask& train = task.train();
  base::Rng rng(
      base::StreamKey(task.seed(), "growth",
                      {static_cast<uint64_t>(task.shard()), static_cast<uint64_t>(task.round())}));
  std::vector<int32_t> examples = shard.indices->train;
  base::Shuffle(std::span(examples), rng);
  const size_t batch_size = train.training().batch_size();
  std::vector<BatchBuffer> buffers;
  std::vector<engine::Batch> batches;
  for (int i = 0; i < std::max(1, train.growth_batches()); ++i) {
    const size_t begin = i * batch_size;
    if (begin >= examples.size()) break;
    buffers.emplace_back(task, shard.dataset->features(), network.batch_stride());
    const auto chosen =
        std::span(examples).subspan(begin, std::min(batch_size, examples.size() - begin));
    batches.push_back(buffers.back().Fill(*shard.dataset, chosen));
  }
  const std::vector<int64_t> counts(train.growth_candidates().begin(),
                                    train.growth_candidates().end());
  std::vector<wire::TensorScores> scores;
  for (auto& list : network.GrowthCandidates(batches, counts)) {
    scores.push_back({std::move(list.positions), std::move(list.values)});
  }
  return wire::EncodeScores(scores, layout);
}

void AppendValues(std::span<const float> values, Partial& partial) {
  partial.header.set_values_count(partial.header.values_count() + values.size());
  partial.body += wire::ValuesAsBytes(values);
}

}  // namespace

absl::StatusOr<Partial> RunTrain(Surroundings& surroundings, const v1::Task& task,
                                 const std::shared_ptr<const tensor::ModelState>& model) {
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, surroundings.data.Get(task));
  const v1::TrainTask& train = task.train();
  const int batch_size = train.training().batch_size();
  if (shard.indices->train.empty()) return NoTrainingExamples(task);
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network,
                            surroundings.networks.Get(task, model, batch_size));
  ExampleOrder order(shard.indices->train, task.seed(), task.shard(), batch_size);
  if (!model->optimizer_state.empty()) {
    const int64_t steps = StepRange(task, order.steps_per_epoch()).first;
    ESPALIER_RETURN_IF_ERROR(network->SetOptimizerState(model->optimizer_state, steps));
  }
  ESPALIER_ASSIGN_OR_RETURN(const TrainSummary summary,
                            TrainSteps(surroundings, task, shard, order, *network));
  Partial partial;
  // Workers weigh by the size of their shard, however many passes they made.
  const int64_t examples =
      static_cast<int64_t>(shard.indices->train.size()) * PredictionsPerExample(task);
  const double share = static_cast<double>(examples) / static_cast<double>(summary.seen);
  partial.header.set_examples(examples);
  partial.header.set_loss_sum(summary.loss_sum * share);
  partial.header.set_correct(std::llround(static_cast<double>(summary.correct) * share));
  AppendValues(network->values(), partial);
  if (wire::ValuesPerWeight(task) > 1) {
    AppendValues(network->optimizer_state(), partial);
  }
  if (train.growth_candidates_size() > 0) {
    partial.body += GrowthScores(task, shard, *network, model->topology->layout());
  }
  return partial;
}

}  // namespace espalier::worker::tasks
