// Task kind `train`: local sparse SGD on one shard, and the streamed top-K gradient at inactive
// positions when the method grows by it.
#include <algorithm>
#include <cmath>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/values_codec.h"
#include "worker/tasks/batch_buffer.h"
#include "worker/tasks/extrude.h"
#include "worker/tasks/growth_examples.h"
#include "worker/tasks/importance.h"
#include "worker/tasks/readjust.h"
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
  int64_t steps = 0;
};

absl::StatusOr<TrainSummary> TrainSteps(Surroundings& surroundings, const v1::Task& task,
                                        const ShardView& shard, ExampleOrder& order,
                                        engine::Network& network, Importance* importance,
                                        Readjuster& readjuster) {
  BatchBuffer buffer(task, shard.dataset->features(), network.batch_stride());
  const auto [first, count] = StepRange(task, order.steps_per_epoch());
  TrainSummary summary;
  const Extruder extruder(task.train());
  extruder.Begin(network);
  for (int64_t step = first; step < first + count; ++step) {
    if (surroundings.cancelled) return Cancelled();
    const engine::Batch batch = buffer.Fill(*shard.dataset, order.Batch(step));
    buffer.images.Augment(task.seed(), task.shard(), step, batch.size, buffer.values.data());
    const uint64_t dropout_key = base::StreamKey(
        task.seed(), "dropout", {static_cast<uint64_t>(task.shard()), static_cast<uint64_t>(step)});
    const double learning_rate = extruder.LearningRate(step - first, count, network);
    const engine::BatchResult result =
        importance == nullptr
            ? network.Train(batch, learning_rate, dropout_key)
            : network.TrainAndSum(batch, learning_rate, dropout_key, importance->sums());
    if (importance != nullptr) importance->EndMinibatch();
    if (!std::isfinite(result.loss_sum)) return Diverged(step - first);
    summary.loss_sum += result.loss_sum;
    summary.correct += result.correct;
    summary.seen += batch.size;
    ++summary.steps;
    if (readjuster.IsDue(step - first, count)) {
      // Of the same examples, but as they are.
      const engine::Batch last = buffer.Fill(*shard.dataset, order.Batch(step));
      ESPALIER_RETURN_IF_ERROR(readjuster.Readjust(last, network));
    }
  }
  return summary;
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

// What a method grows by, at the weights after training.
struct GrowthGradients {
  std::vector<float> active;               // of all stored values, if the task asks for them
  std::vector<engine::ScoreList> largest;  // at inactive positions of each tensor
};

GrowthGradients GradientsForGrowth(const v1::Task& task, const ShardView& shard,
                                   engine::Network& network) {
  const v1::TrainTask& train = task.train();
  const v1::GrowthReport& report = wire::AdditionOf(train, v1::TrainAddition::kGrowth).growth();
  GrowthGradients result;
  if (!report.active() && report.counts().empty()) return result;
  const GrowthExamples examples(task, shard, network, train.training().batch_size(),
                                report.batches());
  std::vector<int64_t> counts(report.counts().begin(), report.counts().end());
  counts.resize(network.topology()->num_tensors());
  if (report.active()) result.active.resize(network.values().size());
  result.largest = network.GrowthCandidates(examples.batches(), counts, result.active);
  return result;
}

// The participant's control-variate correction; empty when the task has none.
absl::StatusOr<std::vector<float>> FetchCorrection(const Surroundings& surroundings,
                                                   const v1::TrainTask& train, size_t count) {
  const v1::TrainAddition& addition = wire::AdditionOf(train, v1::TrainAddition::kCorrection);
  if (!addition.has_correction()) return std::vector<float>{};
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes,
                            surroundings.fetch(addition.correction().values()));
  return wire::DecodeValues(bytes, count);
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

// What the task asks for, of the network as trained.
absl::Status AddSections(const v1::Task& task, const ShardView& shard,
                         const tensor::ModelState& model, const Readjuster& readjuster,
                         Importance* importance, engine::Network& network, Partial& partial) {
  const bool second_moments = wire::HasAddition(task.train(), v1::TrainAddition::kSecondMoments);
  GrowthGradients growth;
  bool has_growth = false;
  const auto gradients = [&]() -> GrowthGradients& {
    if (!has_growth) growth = GradientsForGrowth(task, shard, network);
    has_growth = true;
    return growth;
  };
  for (const v1::Section& section : task.sections()) {
    const v1::SectionKind kind = section.kind();
    switch (kind) {
      case v1::SECTION_KIND_VALUES:
        if (second_moments) {
          AddSection(kind, WithSecondMoments(network), partial);
        } else {
          AddSection(kind, network.values(), partial);
        }
        break;
      case v1::SECTION_KIND_DIFFERENCES:
        AddDifferences(task, section, *network.topology(),
                       second_moments
                           ? WithSecondMoments(network)
                           : std::vector(network.values().begin(), network.values().end()),
                       model, partial);
        break;
      case v1::SECTION_KIND_OPTIMIZER_STATE:
        AddSection(kind, network.optimizer_state(), partial);
        break;
      case v1::SECTION_KIND_GRADIENTS:
        AddSection(kind, gradients().active, partial);
        break;
      case v1::SECTION_KIND_IMPORTANCE:
        if (importance == nullptr) return UnknownSection(section);
        AddSection(kind, importance->Take(), partial);
        break;
      case v1::SECTION_KIND_GROWTH:
        AddScores(std::move(gradients().largest), model.topology->layout(), partial);
        break;
      case v1::SECTION_KIND_STRUCTURE: {
        ESPALIER_ASSIGN_OR_RETURN(const std::string update, readjuster.Encode(*model.topology));
        AddSection(kind, v1::SECTION_TYPE_TOPOLOGY_UPDATE, section.count(), update, partial);
        break;
      }
      default:
        return UnknownSection(section);
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Diverged(int64_t step) {
  return base::FailedPrecondition(
      "NON_FINITE", "expected a finite loss, found none at local step " + std::to_string(step + 1) +
                        ": training diverges; lower training.optimizer.learning_rate");
}

absl::StatusOr<Partial> RunTrain(Surroundings& surroundings, const v1::Task& task,
                                 const std::shared_ptr<const tensor::ModelState>& model) {
  const v1::TrainTask& train = task.train();
  using Addition = v1::TrainAddition;
  ESPALIER_RETURN_IF_ERROR(wire::CheckAdditions(
      train,
      {Addition::kGrowth, Addition::kImportance, Addition::kCorrection, Addition::kReadjustment,
       Addition::kExtrusion, Addition::kExampleLimit, Addition::kSecondMoments},
      "networks"));
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, surroundings.data.Get(task));
  const int batch_size = train.training().batch_size();
  if (shard.indices->train.empty()) return NoTrainingExamples(task);
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network,
                            surroundings.networks.Get(task, model, batch_size));
  const std::vector<int32_t> training_examples = TrainingExamples(task, shard);
  ESPALIER_RETURN_IF_ERROR(CheckBatchNorm(task, training_examples.size()));
  ExampleOrder order(training_examples, task.seed(), task.shard(), batch_size);
  if (!model->optimizer_state.empty()) {
    const int64_t steps = StepRange(task, order.steps_per_epoch()).first;
    ESPALIER_RETURN_IF_ERROR(network->SetOptimizerState(model->optimizer_state, steps));
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<float> correction,
                            FetchCorrection(surroundings, train, model->values.size()));
  ESPALIER_RETURN_IF_ERROR(network->SetGradientTerms({.proximal_mu = train.training().proximal_mu(),
                                                      .reference = model->values,
                                                      .correction = correction}));
  std::optional<Importance> importance;
  if (wire::HasAddition(train, v1::TrainAddition::kImportance)) {
    importance.emplace(
        model->topology->total_size(),
        wire::AdditionOf(train, v1::TrainAddition::kImportance).importance().every());
  }
  Readjuster readjuster(train);
  const absl::StatusOr<TrainSummary> trained = TrainSteps(
      surroundings, task, shard, order, *network, importance ? &*importance : nullptr, readjuster);
  if (!trained.ok()) {
    surroundings.networks.Forget();
    return trained.status();
  }
  const TrainSummary& summary = *trained;
  Partial partial;
  // Workers weigh by the size of their shard, however many passes they made.
  const int64_t examples =
      static_cast<int64_t>(training_examples.size()) * PredictionsPerExample(task);
  const double share = static_cast<double>(examples) / static_cast<double>(summary.seen);
  partial.header.set_examples(examples);
  partial.header.set_steps(summary.steps);
  partial.header.set_loss_sum(summary.loss_sum * share);
  partial.header.set_correct(std::llround(static_cast<double>(summary.correct) * share));
  ESPALIER_RETURN_IF_ERROR(AddSections(task, shard, *model, readjuster,
                                       importance ? &*importance : nullptr, *network, partial));
  return partial;
}

}  // namespace espalier::worker::tasks
