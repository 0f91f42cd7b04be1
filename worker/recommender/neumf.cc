#include "worker/recommender/neumf.h"

#include <algorithm>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "worker/engine/activation.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/dropout.h"
#include "worker/engine/rows/row_arithmetic.h"
#include "worker/engine/rows/row_bags.h"
#include "worker/recommender/epoch_order.h"
#include "worker/recommender/layers.h"
#include "worker/recommender/pairs.h"
#include "worker/recommender/scoring/pair_scorer.h"
#include "worker/recommender/scoring/snapshot.h"
#include "worker/recommender/sinks.h"

namespace espalier::worker::recommender {
namespace {

using engine::AlignedBuffer;
using engine::RowBags;
using Lease = engine::Workspace::Lease;

// Where the tensors stand in the layout: tables of items, the perceptron and the prediction, each
// with its bias, tables of users.
constexpr size_t kGmfItems = 0;
constexpr size_t kMlpItems = 1;
constexpr size_t kFirstLayer = 2;

// Pairs whose scores are computed together.
constexpr int64_t kScoredPairs = 512;

// Chains of layers.
constexpr size_t kPerceptron = 0;
constexpr size_t kPrediction = 1;

// Forward and backward pass for up to `max_pairs` pairs.
class NeuMfPass {
 public:
  NeuMfPass(const v1::NeuMfModel& spec, const tensor::ModelTopology& topology, int64_t max_pairs,
            int threads)
      : dimensions_(spec.dimensions()),
        hidden_(*spec.hidden().rbegin()),
        gmf_users_(kFirstLayer + 2 * (static_cast<size_t>(spec.hidden_size()) + 1)),
        threads_(threads),
        layers_(topology, kFirstLayer, max_pairs, threads),
        stride_(layers_.stride()),
        input_dropout_(spec.dropout(), engine::DropoutScaling::kTraining, 2 * dimensions_, stride_),
        of_users_(dimensions_ * stride_),
        of_items_(dimensions_ * stride_),
        input_(2 * dimensions_ * stride_),
        features_((dimensions_ + hidden_) * stride_) {
    std::vector<engine::LayerSpec> perceptron;
    for (int l = 0; l < spec.hidden_size(); ++l) {
      // Dropout is before each layer: after the one below.
      const bool last = l + 1 == spec.hidden_size();
      perceptron.push_back({.units = spec.hidden(l), .dropout = last ? 0 : spec.dropout()});
    }
    layers_.Add(perceptron, 2 * dimensions_);
    layers_.Add({{.units = 1, .activation = engine::Activation::kLinear}}, dimensions_ + hidden_);
  }

  const absl::Status& status() const { return layers_.status(); }

  // Scores of pairs; with dropout if there is a key.
  const float* Forward(std::span<const RowTensor> tensors, const RowBags& users,
                       const RowBags& items, const uint64_t* dropout_key) {
    const engine::Extent extent = {users.size(), engine::WholeLanes(users.size())};
    pass_ = Layers::PassOf(tensors, extent, dropout_key);
    const auto look_up = [&](const RowBags& bags, size_t table, float* out) {
      bags.Forward(tensors[table], 0, extent, stride_, out, threads_);
    };
    look_up(users, gmf_users_, of_users_.data());
    look_up(items, kGmfItems, of_items_.data());
    look_up(users, gmf_users_ + 1, input_.data());
    look_up(items, kMlpItems, input_.data() + dimensions_ * stride_);
    engine::Multiply(of_users_.data(), of_items_.data(), dimensions_ * stride_, features_.data());
    input_dropout_.set_active(dropout_key != nullptr);
    if (input_dropout_.active()) {
      input_dropout_.Draw(base::StreamKey(*dropout_key, "dropout", {0}), {0, 2 * dimensions_});
      input_dropout_.Apply(input_.data(), stride_, extent.width, {0, 2 * dimensions_});
    }
    const float* hidden = layers_.Forward(kPerceptron, pass_, input_.data());
    engine::CopyRows(hidden, HiddenOf(features_.data()), stride_, extent.width, {0, hidden_});
    return layers_.Forward(kPrediction, pass_, features_.data());
  }

  // Takes the gradient with respect to the scores of the last Forward() back to all tensors.
  void Backward(std::span<const RowTensor> tensors, const RowBags& users, const RowBags& items,
                std::span<const float> of_scores, LayerGradients& gradients, RowSink& sink) {
    const engine::Extent extent = pass_.extent;
    const engine::BackwardTarget target = gradients.Target(extent);
    Lease scores(layers_.workspace());
    Lease features(layers_.workspace());
    Lease hidden(layers_.workspace());
    Lease input(layers_.workspace());
    std::ranges::copy(of_scores, scores.data());
    std::fill(scores.data() + extent.size, scores.data() + extent.width, 0.0F);
    layers_.Backward(kPrediction, pass_, features_.data(), scores.data(), features.data(), target);
    engine::CopyRows(HiddenOf(features.data()), hidden.data(), stride_, extent.width, {0, hidden_});
    layers_.Backward(kPerceptron, pass_, input_.data(), hidden.data(), input.data(), target);
    input_dropout_.Apply(input.data(), stride_, extent.width, {0, 2 * dimensions_});
    std::vector<float> of_examples(extent.size * dimensions_);
    const RowBags::Uses of_users = users.ByRow();
    const RowBags::Uses of_items = items.ByRow();
    const auto emit = [&](const RowBags::Uses& uses, size_t table, const float* of_columns) {
      engine::Transpose(of_columns, dimensions_, stride_, extent.size, of_examples.data());
      EmitUses(sink, table, tensors[table], uses, of_examples.data());
    };
    emit(of_users, gmf_users_ + 1, input.data());
    emit(of_items, kMlpItems, input.data() + dimensions_ * stride_);
    const int64_t size = dimensions_ * stride_;
    engine::Multiply(features.data(), of_items_.data(), size, input.data());
    emit(of_users, gmf_users_, input.data());
    engine::Multiply(features.data(), of_users_.data(), size, input.data());
    emit(of_items, kGmfItems, input.data());
  }

  int64_t stride() const { return stride_; }

 private:
  // The prediction's input: the product of embeddings, then the last layer of the perceptron.
  float* HiddenOf(float* features) const { return features + dimensions_ * stride_; }

  int64_t dimensions_;
  int64_t hidden_;
  size_t gmf_users_;  // the table; that of the perceptron follows
  int threads_;
  Layers layers_;
  int64_t stride_;
  engine::DropoutMask input_dropout_;
  engine::Pass pass_;
  AlignedBuffer of_users_;
  AlignedBuffer of_items_;
  AlignedBuffer input_;  // user's embedding, then the item's
  AlignedBuffer features_;
};

class NeuMf final : public RecommenderModel {
 public:
  NeuMf(const v1::NeuMfModel& spec, const ModelParts& parts)
      : RecommenderModel(parts),
        spec_(spec),
        order_(parts.train->size()),
        pass_(spec, *parts.topology,
              std::min(parts.max_batch, parts.train->size()) * (1 + spec.negatives()),
              parts.threads) {}

  const absl::Status& status() const { return pass_.status(); }
  int64_t StepsPerEpoch(int64_t batch_size) const override { return order_.steps(batch_size); }

  std::unique_ptr<Scorer> MakeScorer(const Interactions&) const override {
    auto snapshot = std::make_shared<const Snapshot>(shared_topology(), values());
    return MakePairScorer(kScoredPairs, [spec = spec_, snapshot]() -> ScorePairs {
      auto pass = std::make_shared<NeuMfPass>(spec, *snapshot->topology, kScoredPairs, 1);
      return [snapshot, pass](std::span<const int32_t> users, std::span<const int32_t> items,
                              float* scores) {
        const float* found =
            pass->Forward(snapshot->tensors, RowBags(users), RowBags(items), nullptr);
        std::copy_n(found, users.size(), scores);
      };
    });
  }

 protected:
  StepResult Learn(const Step& step, RowSink& sink) override {
    const Pairs pairs = DrawPairs(train(), order_.Of(step), spec_.negatives(), step);
    const RowBags users(pairs.users);
    const RowBags items(pairs.items);
    const uint64_t key = base::StreamKey(step.seed, "neumf", {static_cast<uint64_t>(step.index)});
    const float* found = pass_.Forward(tensors(), users, items, &key);
    std::vector<float> scores(found, found + users.size());
    const double loss = PairLoss(pairs, 0, scores);
    LayerGradients gradients(topology(), tensors(), pass_.stride(), sink, threads());
    pass_.Backward(tensors(), users, items, scores, gradients, sink);
    return {.loss = loss, .examples = pairs.positives};
  }

 private:
  v1::NeuMfModel spec_;
  EpochOrder order_;
  NeuMfPass pass_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RecommenderModel>> MakeNeuMf(const v1::NeuMfModel& spec,
                                                            const ModelParts& parts) {
  auto model = std::make_unique<NeuMf>(spec, parts);
  ESPALIER_RETURN_IF_ERROR(model->status());
  return model;
}

}  // namespace espalier::worker::recommender
