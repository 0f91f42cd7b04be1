// RecommenderModel: a recommender that learns from interactions, with memory for active weights.
//
// Tensors:     in the order of wire::RecommenderTensors(); with private users, those of
//              wire::UserTensors() for the users at hand after them. Values of a sparse tensor are
//              in topology order, of a dense one row-major.
// Batches:     a model draws its own: a step names a seed and its place in the job, and the same
//              step is the same batch, negatives and dropout, whatever the values are.
// Optimizer:   a step acts on every stored value as a dense optimizer does: momentum and moments of
//              rows that the batch does not reach decay and move them, and weight decay acts on
//              them. It costs a pass over the stored values; groups of 64 rows that no batch has
//              reached yet have no slots and, without weight decay, cost nothing. With `lazy_rows`
//              rows are updated only when a batch touches them, that is gives them a gradient other
//              than zero; others keep value and slots bit by bit. Adam's bias correction counts the
//              steps of the whole model, so the first update of a freshly grown weight, whose slots
//              are 0, is up to (1 − β1)/√(1 − β2) ≈ 3.2 times the learning rate.
// Memory:      per stored value 4 bytes, 4 for each optimizer slot of touched groups, 4 for the
//              structure. Gradients at inactive positions exist in tiles of about 1 MiB. What a
//              model needs besides is said at its class.
// Ownership:   interactions and topology are shared.
// Threading:   one caller at a time; work is split over `threads` OpenMP threads.
// Determinism: the same calls give the same bits on the same processor type, for any thread count.
// Errors:      Create(), SetValues() and SetOptimizerState() return a Status. A diverged model
//              shows as a non-finite loss.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/sparsity/top_k.h"
#include "common/tensor/model.h"
#include "espalier/v1/recommender.pb.h"
#include "worker/engine/spec.h"
#include "worker/recommender/interactions.h"
#include "worker/recommender/row_parameters.h"

namespace espalier::worker::recommender {

// One step of training.
struct Step {
  // Steps before this one since training began, over all rounds: decides the place in the epoch's
  // order and the annealing of loss weights.
  int64_t index = 0;
  // lightgcn: (user, positive, negative) triples; neumf: positives, each with its negatives;
  // multvae: users. ≥ 1; the last step of an epoch of neumf and multvae has what is left.
  int64_t batch_size = 1;
  double learning_rate = 0;
  // What orders, negatives, dropout and noise are drawn with, together with `index`: one for each
  // participant of a job.
  uint64_t seed = 0;
};

struct StepResult {
  double loss = 0;       // before the update: mean over the batch, with its regularisation
  int64_t examples = 0;  // triples, positives or users
};

// Ranks items for users with the values at the time it was made; later training does not change it.
class Scorer {
 public:
  virtual ~Scorer() = default;
  // Another scorer of the same values, for another thread.
  virtual std::unique_ptr<Scorer> Clone() const = 0;
  // scores[i][j] of user users[i] and item first_item + j, for j < num_items; row-major with
  // distance num_items. Consecutive calls for the same users, or the same items, share work. Higher
  // is better.
  virtual void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
                     float* scores) = 0;
  // scores[j] of one user and items[j].
  virtual void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) = 0;
  // What those scores are multiplied with to be the model's, as recommender.proto defines them. It
  // is more than 0, so that it matters to nobody who ranks.
  virtual float scale() const { return 1; }
};

// What every model is made from, checked by RecommenderModel::Create().
struct ModelParts {
  engine::OptimizerSpec optimizer;
  std::shared_ptr<const tensor::ModelTopology> topology;
  std::shared_ptr<const Interactions> train;
  int64_t max_batch = 1;
  int threads = 1;
  std::vector<std::shared_ptr<const Interactions>> fields = {};
};

class RecommenderModel {
 public:
  // `train` has the users at hand as rows; `spec` may leave defaults unset. No step has a
  // batch_size above `max_batch`. `fields`: for each field of autoint the values of every user at
  // hand, or of every item, with the vocabulary as columns. Errors: InvalidArgument: SHAPE_MISMATCH
  // when topology, spec and interactions disagree, OPTIMIZER_PARAMETER, NO_INTERACTIONS when no
  // user has an item.
  static absl::StatusOr<std::unique_ptr<RecommenderModel>> Create(
      const v1::RecommenderSpec& spec, const engine::OptimizerSpec& optimizer,
      std::shared_ptr<const tensor::ModelTopology> topology,
      std::shared_ptr<const Interactions> train, int64_t max_batch, int threads,
      std::vector<std::shared_ptr<const Interactions>> fields = {});
  virtual ~RecommenderModel() = default;

  const tensor::ModelTopology& topology() const { return *topology_; }
  const Interactions& train() const { return *train_; }

  // Steps that look at every interaction (lightgcn: draw as many) or user once.
  virtual int64_t StepsPerEpoch(int64_t batch_size) const = 0;

  // Sets all values and forgets the optimizer's state. Errors: InvalidArgument on a wrong count.
  absl::Status SetValues(std::span<const float> values);
  std::span<const float> values() const { return values_; }
  // After SetValues(): optimizer state to go on from, as optimizer_state() gives it, `steps` steps
  // after the beginning. Errors: InvalidArgument on a wrong count.
  absl::Status SetOptimizerState(std::span<const float> state, int64_t steps);
  // One float (momentum) or two (Adam: all first moments, then all second) per value; 0 for rows
  // that were never touched. Empty for plain SGD.
  std::vector<float> optimizer_state() const;
  // Training steps from now on leave these tensors of the layout as they are.
  void SetFrozen(const std::vector<bool>& tensors);
  // Rows of a tensor for which optimizer slots exist.
  int64_t RowsWithSlots(size_t tensor) const;

  // One step: batch, forward, loss, backward, update.
  StepResult Train(const Step& step);

  // Loss of the step's batch and, into `gradients` (values().size() entries), its gradient with
  // respect to every stored value. No update.
  StepResult Gradients(const Step& step, std::span<float> gradients);

  // For each tensor the counts_per_tensor[i] inactive positions of largest |gradient|, where the
  // gradient is that of the step's loss at the present values; with several steps it is the sum of
  // their |gradients|. Ties: the lower position. Empty for dense tensors. DSL asks with one step,
  // the one it trains on next: the gradient then is the same minibatch's, before the update.
  // Only rows that the batches reach can have candidates, so there may be fewer. `active`, unless
  // empty: values().size() entries that become the gradient, or that sum, at every stored value.
  // Memory: with one step 32 bytes per candidate; with several, the sums of whole rows, at most
  // kMaxBufferedGradients (sinks.h) for each tensor: rows that come later are left out.
  std::vector<sparsity::ScoredPositions> GrowthCandidates(
      std::span<const Step> steps, std::span<const int64_t> counts_per_tensor,
      std::span<float> active = {});

  // `history`: interactions that scores may look at besides the values (multvae encodes them, and
  // ranks users that training never saw); others ignore it. Borrowed while the scorer and its
  // clones live.
  virtual std::unique_ptr<Scorer> MakeScorer(const Interactions& history) const = 0;

 protected:
  explicit RecommenderModel(const ModelParts& parts);

  // Forward and backward pass of one step; hands every gradient to `sink`, each row once, and
  // reads no value of a row after its gradient.
  virtual StepResult Learn(const Step& step, RowSink& sink) = 0;

  const RowTensor& tensor(size_t index) const { return tensors_[index]; }
  std::span<const RowTensor> tensors() const { return tensors_; }
  const std::shared_ptr<const tensor::ModelTopology>& shared_topology() const { return topology_; }
  int64_t max_batch() const { return max_batch_; }
  int threads() const { return threads_; }

 private:
  StepResult LearnChecked(const Step& step, RowSink& sink);

  std::shared_ptr<const tensor::ModelTopology> topology_;
  std::shared_ptr<const Interactions> train_;
  int64_t max_batch_;
  int threads_;
  std::vector<float> values_;
  std::vector<RowTensor> tensors_;
  std::vector<RowOptimizer> optimizers_;
  int64_t steps_ = 0;  // of the optimizer
};

}  // namespace espalier::worker::recommender
