// Model: a participant's model, whatever its family: what the task kinds ask of it.
//
// One is made for each task (models.h) and stands for the task's model, with its values, on the
// participant's data. What is expensive to make, such as networks, data sets and lists of
// interactions, is kept between tasks by the family's cache, which the model borrows.
//
// Families:    NetworkModel (network/: layers, and transformers that are whole in memory),
//              RankingModel (recommender/), StreamedModel (language/: a pretrained language model,
//              block by block). A family overrides what it offers.
// Ownership:   borrows the task, `cancelled` and the caches; shares the values.
// Threading:   one caller at a time; `cancelled` may become true at any moment and is asked once
//              per batch.
// Determinism: results are a function of the task and the data alone, on one type of processor.
// Errors:      TASK_KIND_UNKNOWN (Unimplemented) for what the family does not offer; Cancelled;
//              those of worker/data; SHARD_EMPTY where training examples are needed and none are
//              there; NON_FINITE where numbers that are sent are not finite.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/sparsity/top_k.h"
#include "common/tensor/model.h"
#include "espalier/v1/predict.pb.h"
#include "espalier/v1/worker.pb.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

// Local training, before its first step.
struct TrainingPlan {
  int64_t examples = 0;  // of the participant, by which its result is weighted
  int64_t steps = 0;
};

// Sums over the examples of one step, before its update.
struct StepSums {
  double loss = 0;
  int64_t correct = 0;  // 0 where nothing is classified
  int64_t examples = 0;
};

// The tensors that the coordinator has too, as training left them, of each running variance
// variance + mean² if the task asks for second moments. Borrowed while the model lives.
struct TrainedTensors {
  std::shared_ptr<const tensor::ModelTopology> topology;
  std::span<const float> values;
};

// What a method grows by, of the tensors that the coordinator has too.
struct GrowthGradients {
  std::vector<float> active;                       // of all stored values, if they are asked for
  std::vector<sparsity::ScoredPositions> largest;  // at inactive positions of each tensor
};

// Numbers that examples gave; the task's only section.
struct Measured {
  int64_t examples = 0;
  std::vector<float> values;
};

// Exact sums over the inputs of layers, encoded (common/sparsity/pruning/activation_statistics.h).
struct Observed {
  int64_t examples = 0;
  std::string sums;
};

class Model {
 public:
  virtual ~Model() = default;
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // The family in the plural, as a part of a sentence: "networks".
  virtual std::string_view family() const = 0;
  // Stored weights of the task's model; 0 where it is never whole in memory.
  int64_t stored_weights() const { return state_ ? state_->topology->total_stored() : 0; }
  // The task's model as it came; not of one that is never whole in memory.
  const tensor::ModelState& state() const { return *state_; }

  // Training: BeginTraining() once, TrainStep() for each step from 0, then what the task asks for,
  // then EndTraining(). Errors of BeginTraining(): those of wire::CheckAdditions().
  virtual absl::StatusOr<TrainingPlan> BeginTraining();
  virtual absl::StatusOr<StepSums> TrainStep(int64_t step);
  virtual TrainedTensors Trained();
  // As it crosses rounds: one float (momentum) or two (Adam) for each value of Trained().
  virtual std::vector<float> OptimizerState();
  // At the weights after training, as the task's growth report says.
  virtual absl::StatusOr<GrowthGradients> GradientsForGrowth();
  // Squared gradient sums of all positions while training.
  virtual absl::StatusOr<std::vector<float>> Importance();
  // The change of structure that the participant made itself, as the bytes of a TopologyUpdate.
  virtual absl::StatusOr<std::string> StructureUpdate();
  virtual absl::Status EndTraining();

  // Sums over test examples, or over those that the task says.
  virtual absl::StatusOr<Partial> Evaluate();
  // The best items for a user.
  virtual absl::StatusOr<Partial> Recommend();
  // Outputs for examples that come with the task, one after the other.
  virtual absl::StatusOr<std::vector<float>> Predict(const v1::Examples& examples);
  // Sums over what layers are given.
  virtual absl::StatusOr<Observed> Observe();
  // Running statistics, taken anew.
  virtual absl::StatusOr<Measured> Calibrate();
  // Saliency of all weights, by the task's criterion.
  virtual absl::StatusOr<Measured> Score();
  // Means and mean squares of the channels of the data.
  virtual absl::StatusOr<Measured> MeasureChannels();
  // Gradients at inactive positions that a GrowthTask asks for; `examples` of the participant.
  virtual absl::StatusOr<GrowthGradients> InactiveGradients(int64_t& examples);
  // The values as they came.
  virtual absl::StatusOr<Measured> Echo();

 protected:
  // `state`: null for a model that is never whole in memory.
  Model(const v1::Task& task, std::shared_ptr<const tensor::ModelState> state,
        const std::atomic<bool>& cancelled)
      : task_(task), state_(std::move(state)), cancelled_(cancelled) {}

  const v1::Task& task() const { return task_; }
  const std::shared_ptr<const tensor::ModelState>& shared_state() const { return state_; }
  bool cancelled() const { return cancelled_; }
  const std::atomic<bool>& cancellation() const { return cancelled_; }

 private:
  // The error of what the family does not offer; `what` is its name in the protocol.
  absl::Status NotOffered(std::string_view what) const;

  const v1::Task& task_;
  const std::shared_ptr<const tensor::ModelState> state_;
  const std::atomic<bool>& cancelled_;
};

}  // namespace espalier::worker::tasks
