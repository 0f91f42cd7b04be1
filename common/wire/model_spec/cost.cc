#include "common/wire/model_spec/cost.h"

#include <algorithm>

#include "common/base/status.h"
#include "common/tensor/lanes.h"
#include "common/wire/model_spec/frozen.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/named_models.h"
#include "common/wire/model_spec/train_additions.h"

namespace espalier::wire {
namespace {

constexpr double kFlopsPerWeight = 2;
// A worker that has no model yet: program, gRPC, thread stacks.
constexpr int64_t kProcessBytes = int64_t{32} << 20;
// Tiles of gradients at inactive positions, chunks of transfers, plans of the library.
constexpr int64_t kScratchBytes = int64_t{8} << 20;

bool HasBranches(const v1::ModelSpec& model) {
  return std::any_of(model.layers().begin(), model.layers().end(), [](const v1::Layer& layer) {
    const auto kind = KindOf(layer);
    return kind.ok() && !(*kind)->Branches(layer).empty();
  });
}

}  // namespace

absl::StatusOr<ModelCost> ModelCost::Create(const v1::ModelSpec& spec) {
  const v1::ModelSpec model = ExplicitModel(spec);
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<ModelTensor> tensors, TensorsOf(model));
  ModelCost cost;
  for (const ModelTensor& tensor : tensors) {
    cost.layout_.push_back(tensor.spec);
    cost.tensors_.push_back({.size = tensor.spec.size(),
                             .positions = tensor.positions,
                             .looked_up = tensor.looked_up,
                             .convolution = tensor.spec.shape.size() == 4,
                             .transformed = tensor.transformed});
  }
  cost.example_ = FamilyOf(model).CostOf(model, v1::DataSpec());
  cost.input_features_ = InputShape(model).features();
  cost.outputs_ = OutputsOf(model);
  if (HasBranches(model)) cost.deltas_ = 4;
  return cost;
}

absl::StatusOr<ModelCost> ModelCost::Create(const v1::JobSpec& job) {
  ESPALIER_ASSIGN_OR_RETURN(ModelCost cost, Create(job.model()));
  cost.example_ = FamilyOf(job.model()).CostOf(job.model(), job.data());
  cost.shards_ = std::max(1, job.data().partition().shards());
  return cost;
}

double ModelCost::Users() const {
  return static_cast<double>(example_.users) / static_cast<double>(shards_);
}

double ModelCost::Drawn(const TrainingLoad& load) const {
  if (load.steps > 0) return static_cast<double>(load.steps * load.batch_size);
  return load.passes * (example_.is_user ? Users() : load.examples);
}

double ModelCost::Positions(const Tensor& tensor, const TrainingLoad& load) const {
  if (!tensor.looked_up) return static_cast<double>(tensor.positions * example_.tokens);
  const double entries = Users() * static_cast<double>(example_.items);
  return entries > 0 ? load.examples / entries : 0;
}

double ModelCost::Products(const TrainingLoad& load) const {
  const auto tokens = static_cast<double>(example_.tokens);
  return example_.products + example_.pair_products * tokens * (tokens + 1) / 2 +
         example_.graph * load.examples /
             static_cast<double>(std::max<int64_t>(1, load.batch_size));
}

double ModelCost::ForwardFlops(std::span<const int64_t> stored, const TrainingLoad& load) const {
  double flops = Products(load);
  for (size_t i = 0; i < tensors_.size(); ++i) {
    flops += kFlopsPerWeight * static_cast<double>(stored[i]) * Positions(tensors_[i], load);
  }
  return flops;
}

double ModelCost::DenseForwardFlops(const TrainingLoad& load) const {
  double flops = Products(load);
  for (size_t i = 0; i < tensors_.size(); ++i) flops += FullGradientFlops(i, load);
  return flops;
}

double ModelCost::FullGradientFlops(size_t tensor, const TrainingLoad& load) const {
  return kFlopsPerWeight * static_cast<double>(tensors_[tensor].size) *
         Positions(tensors_[tensor], load);
}

double ModelCost::FrozenFlops(const v1::Training& training, std::span<const int64_t> stored,
                              const TrainingLoad& load) const {
  // Recommenders compute these gradients all the same.
  if (training.frozen().empty() || example_.users > 0) return 0;
  const std::vector<bool> frozen = FrozenTensors(training, layout_);
  double flops = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    // A transformed weight may share its layer's gradient with what is learned.
    if (!frozen[i] || tensors_[i].transformed) continue;
    flops += kFlopsPerWeight * static_cast<double>(stored[i]) * Positions(tensors_[i], load);
  }
  return flops;
}

ModelCost::RoundFlops ModelCost::OfRound(const v1::TrainTask& task, std::span<const int64_t> stored,
                                         int64_t participants, int64_t examples) const {
  const v1::Training& training = task.training();
  const auto count = static_cast<double>(participants);
  const TrainingLoad load{.steps = training.local_steps(),
                          .passes = static_cast<double>(std::max(1, training.local_epochs())),
                          .batch_size = training.batch_size(),
                          .examples = static_cast<double>(examples) / std::max(1.0, count)};
  const double seen = count * Drawn(load);
  RoundFlops flops = {.actual = seen * TrainFlops(stored, load),
                      .dense = seen * (3 * DenseForwardFlops(load))};
  std::vector<int64_t> sizes;
  sizes.reserve(tensors_.size());
  for (const Tensor& tensor : tensors_) sizes.push_back(tensor.size);
  flops.actual -= seen * FrozenFlops(training, stored, load);
  flops.dense -= seen * FrozenFlops(training, sizes, load);
  const v1::GrowthReport& report = AdditionOf(task, v1::TrainAddition::kGrowth).growth();
  double growth = 0;
  for (int i = 0; i < report.counts_size(); ++i) {
    if (report.counts(i) > 0) growth += FullGradientFlops(i, load);
  }
  // Before the gradients of weights come a forward pass and those of the activations.
  const bool grows = std::any_of(report.counts().begin(), report.counts().end(),
                                 [](int64_t wanted) { return wanted > 0; });
  if (grows || report.active()) growth += 2 * ForwardFlops(stored, load);
  if (report.active()) growth += ForwardFlops(stored, load);
  flops.actual += count * training.batch_size() * std::max(1, report.batches()) * growth;
  const bool importance = HasAddition(task, v1::TrainAddition::kImportance);
  for (size_t i = 0; importance && i < tensors_.size(); ++i) {
    if (stored[i] < tensors_[i].size) flops.actual += seen * FullGradientFlops(i, load);
  }
  return flops;
}

int64_t ModelCost::WorkerBytes(std::span<const int64_t> stored,
                               const v1::Training& training) const {
  constexpr int64_t kFloat = sizeof(float);
  const int slots = OptimizerSlots(training.optimizer());
  const bool keeps_state =
      training.optimizer().across_rounds() == v1::Optimizer::ACROSS_ROUNDS_AVERAGE;
  int64_t model = 0;
  int64_t largest = 0;
  int64_t largest_dense = 0;  // of which the library makes a copy in its own order
  for (size_t i = 0; i < tensors_.size(); ++i) {
    // The task's copy of each value, the network's, the result's and its state.
    model += stored[i] * kFloat * (3 + slots + (keeps_state ? 2 * slots : 0));
    // What the weights are multiplied as, and room for its gradient.
    if (tensors_[i].transformed) model += stored[i] * kFloat;
    largest = std::max(largest, tensors_[i].transformed ? 2 * stored[i] : stored[i]);
    if (stored[i] == tensors_[i].size) {
      largest_dense = std::max(largest_dense, stored[i]);
      continue;
    }
    // Structure (that of the last round is kept too), transpose, and of a convolution its plan.
    model += stored[i] * kFloat * (tensors_[i].convolution ? 5 : 4);
  }
  const int64_t stride = tensor::PaddedStride(training.batch_size());
  const double per_example =
      static_cast<double>(input_features_) + outputs_.total +
      deltas_ * std::max(outputs_.widest, static_cast<double>(input_features_));
  const auto activations = static_cast<int64_t>(per_example) * stride * kFloat;
  return kProcessBytes + kScratchBytes + model + (largest + largest_dense) * kFloat + activations;
}

}  // namespace espalier::wire
