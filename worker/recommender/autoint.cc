#include "worker/recommender/autoint.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "worker/engine/activation.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/dropout.h"
#include "worker/engine/parallel.h"
#include "worker/engine/rows/row_arithmetic.h"
#include "worker/engine/rows/row_bags.h"
#include "worker/engine/sequence/attention.h"
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

// Examples at a time.
constexpr int64_t kChunk = 256;

// Where the tensors stand in the layout: tables of the item and of fields, layers, output, user.
struct Places {
  Places(size_t fields, size_t layers)
      : first_layer(1 + fields), output(first_layer + layers), users(output + 2) {}
  // Field m: the item, the spec's fields, the user.
  size_t Table(size_t field) const { return field == first_layer ? users : field; }
  size_t first_layer;
  size_t output;  // its bias follows
  size_t users;
};

// What a field says about users or items: the rows of its table for each of them. Null: the id
// itself.
struct Field {
  std::shared_ptr<const Interactions> values;
  bool of_items = false;

  std::span<const int32_t> RowsOf(const int32_t& user, const int32_t& item) const {
    const int32_t& id = of_items ? item : user;
    return values == nullptr ? std::span(&id, 1) : values->Of(id);
  }
};

std::vector<Field> FieldsOf(const v1::AutoIntModel& spec, const ModelParts& parts) {
  std::vector<Field> fields = {{.values = nullptr, .of_items = true}};
  for (int i = 0; i < spec.fields_size(); ++i) {
    fields.push_back({.values = parts.fields[i], .of_items = spec.fields(i).of_items()});
  }
  fields.push_back({.values = nullptr, .of_items = false});
  return fields;
}

// The rows of each field's table that examples name: their mean is the field's embedding.
std::vector<RowBags> BagsOf(std::span<const Field> fields, std::span<const int32_t> users,
                            std::span<const int32_t> items) {
  std::vector<RowBags> bags(fields.size());
  for (size_t m = 0; m < fields.size(); ++m) {
    for (size_t n = 0; n < users.size(); ++n) {
      const auto rows = fields[m].RowsOf(users[n], items[n]);
      bags[m].Add(rows, 1 / static_cast<float>(rows.size()));
    }
  }
  return bags;
}

// Where the parts of a projection begin, in units.
enum Part { kQueries, kKeys, kValues, kResidual, kParts };

// Forward and backward pass for up to kChunk examples. Matrices have kChunk columns for each field.
class AutoIntPass {
 public:
  AutoIntPass(const v1::AutoIntModel& spec, size_t fields, const tensor::ModelTopology& topology,
              int threads)
      : dimensions_(spec.dimensions()),
        units_(spec.units()),
        fields_(static_cast<int64_t>(fields)),
        places_(fields - 2, spec.layers()),
        threads_(threads),
        width_(fields_ * kChunk),
        layers_(topology, places_.first_layer, width_, threads),
        stride_(layers_.stride()),
        attention_{.heads = spec.heads(),
                   .kv_heads = spec.heads(),
                   .head_size = units_ / spec.heads(),
                   .stride = stride_,
                   .causal = false,
                   .scale = 1},
        dropout_(spec.dropout(), engine::DropoutScaling::kTraining, dimensions_, stride_),
        embeddings_(dimensions_ * stride_),
        delta_(std::max(dimensions_, units_) * stride_),
        delta_below_(std::max(dimensions_, units_) * stride_) {
    int64_t inputs = dimensions_;
    for (int l = 0; l < spec.layers(); ++l) {
      layers_.Add(
          {{.units = kParts * units_, .activation = engine::Activation::kLinear, .bias = false}},
          inputs);
      projections_.push_back(nullptr);
      outputs_.emplace_back(units_ * stride_);
      inputs = units_;
    }
  }

  const absl::Status& status() const { return layers_.status(); }
  const Places& places() const { return places_; }

  // Scores of the examples from `first` on, one for each score, whose fields `bags` names; with
  // dropout if there is a key.
  void Forward(std::span<const RowTensor> tensors, std::span<const RowBags> bags, int64_t first,
               const uint64_t* dropout_key, std::span<float> scores) {
    const auto examples = static_cast<int64_t>(scores.size());
    pass_ = Layers::PassOf(tensors, {width_, width_}, dropout_key);
    for (int64_t m = 0; m < fields_; ++m) {
      bags[m].Forward(tensors[places_.Table(m)], first, {examples, kChunk}, stride_,
                      embeddings_.data() + m * kChunk, threads_);
    }
    dropout_.set_active(dropout_key != nullptr);
    if (dropout_.active()) {
      dropout_.Draw(*dropout_key, {0, dimensions_});
      dropout_.Apply(embeddings_.data(), stride_, width_, {0, dimensions_});
    }
    for (size_t l = 0; l < outputs_.size(); ++l) Interact(l);
    const float* weight = tensors[places_.output].values();
    std::ranges::fill(scores, tensors[places_.output + 1].values()[0]);
    ForOutputs([&](int64_t input, int64_t offset) {
      engine::AddScaled(weight[input], outputs_.back().data() + offset, examples, scores.data());
    });
  }

  // Takes the gradient with respect to the scores of the last Forward() back. Gives those of the
  // layers' weights to `target`, adds those of the output's weight and bias to `of_output`, and
  // writes that of each field's embeddings, [all examples][dimensions], to `of_embeddings`.
  void Backward(std::span<const RowTensor> tensors, int64_t first, std::span<const float> of_scores,
                const engine::BackwardTarget& target, std::span<float> of_output,
                std::span<std::vector<float>> of_embeddings) {
    const auto examples = static_cast<int64_t>(of_scores.size());
    const float* weight = tensors[places_.output].values();
    std::ranges::fill(delta_.span(), 0.0F);
    ForOutputs([&](int64_t input, int64_t offset) {
      of_output[input] += engine::Dot(of_scores.data(), outputs_.back().data() + offset, examples);
      engine::AddScaled(weight[input], of_scores.data(), examples, delta_.data() + offset);
    });
    of_output.back() += std::accumulate(of_scores.begin(), of_scores.end(), 0.0F);
    for (size_t l = outputs_.size(); l-- > 0;) InteractBackward(l, target);
    dropout_.Apply(delta_.data(), stride_, width_, {0, dimensions_});
    for (int64_t m = 0; m < fields_; ++m) {
      engine::Transpose(delta_.data() + m * kChunk, dimensions_, stride_, examples,
                        of_embeddings[m].data() + first * dimensions_);
    }
  }

 private:
  const float* InputOf(size_t layer) const {
    return layer == 0 ? embeddings_.data() : outputs_[layer - 1].data();
  }
  template <typename Float>
  Float* PartOf(Float* projection, Part part) const {
    return projection + part * units_ * stride_;
  }
  engine::LaneSequences Examples() const {
    return {.tokens = fields_, .distance = kChunk, .width = kChunk};
  }

  // ReLU of what the heads take from the values, plus the residual.
  void Interact(size_t l) {
    const float* all = projections_[l] = layers_.Forward(l, pass_, InputOf(l));
    float* out = outputs_[l].data();
    engine::Attention(attention_, PartOf(all, kQueries), PartOf(all, kKeys), PartOf(all, kValues),
                      Examples(), out, threads_);
    engine::ParallelRows(threads_, units_, [&](engine::RowRange rows) {
      engine::AddRows(PartOf(all, kResidual), out, stride_, width_, rows);
      engine::BiasActivate(engine::Activation::kRelu, nullptr, out, stride_, width_, rows);
    });
  }

  // delta_ from that of the layer's output to that of its input.
  void InteractBackward(size_t l, const engine::BackwardTarget& target) {
    engine::ActivationGradient(engine::Activation::kRelu, {}, outputs_[l].data(), delta_.data(),
                               stride_, width_, {0, units_});
    engine::Workspace::Lease lease(layers_.workspace());
    float* deltas = lease.data();
    const float* all = projections_[l];
    engine::AttentionGradient(attention_, PartOf(all, kQueries), PartOf(all, kKeys),
                              PartOf(all, kValues), delta_.data(), Examples(),
                              PartOf(deltas, kQueries), PartOf(deltas, kKeys),
                              PartOf(deltas, kValues), threads_);
    engine::CopyRows(delta_.data(), PartOf(deltas, kResidual), stride_, width_, {0, units_});
    layers_.Backward(l, pass_, InputOf(l), deltas, delta_below_.data(), target);
    std::swap(delta_, delta_below_);
  }

  // Calls body(place in the output's weight, place in the last layer) for every unit and field.
  template <typename Body>
  void ForOutputs(const Body& body) const {
    for (int64_t m = 0; m < fields_; ++m) {
      for (int64_t unit = 0; unit < units_; ++unit) {
        body(m * units_ + unit, unit * stride_ + m * kChunk);
      }
    }
  }

  int64_t dimensions_;
  int64_t units_;
  int64_t fields_;
  Places places_;
  int threads_;
  int64_t width_;
  Layers layers_;
  int64_t stride_;
  engine::AttentionShape attention_;
  engine::DropoutMask dropout_;
  engine::Pass pass_;
  AlignedBuffer embeddings_;
  AlignedBuffer delta_;
  AlignedBuffer delta_below_;
  std::vector<const float*> projections_;  // of each layer
  std::vector<AlignedBuffer> outputs_;
};

class AutoInt final : public RecommenderModel {
 public:
  AutoInt(const v1::AutoIntModel& spec, const ModelParts& parts)
      : RecommenderModel(parts),
        spec_(spec),
        fields_(FieldsOf(spec, parts)),
        order_(parts.train->size()),
        pass_(spec, fields_.size(), *parts.topology, parts.threads) {}

  const absl::Status& status() const { return pass_.status(); }
  int64_t StepsPerEpoch(int64_t batch_size) const override { return order_.steps(batch_size); }

  std::unique_ptr<Scorer> MakeScorer(const Interactions&) const override {
    auto snapshot = std::make_shared<const Snapshot>(shared_topology(), values());
    return MakePairScorer(kChunk, [spec = spec_, fields = fields_, snapshot]() -> ScorePairs {
      auto pass = std::make_shared<AutoIntPass>(spec, fields.size(), *snapshot->topology, 1);
      return [snapshot, fields, pass](std::span<const int32_t> users,
                                      std::span<const int32_t> items, float* scores) {
        pass->Forward(snapshot->tensors, BagsOf(fields, users, items), 0, nullptr,
                      {scores, users.size()});
      };
    });
  }

 protected:
  StepResult Learn(const Step& step, RowSink& sink) override {
    const Pairs pairs = DrawPairs(train(), order_.Of(step), spec_.negatives(), step);
    const std::vector<RowBags> bags = BagsOf(fields_, pairs.users, pairs.items);
    const Places& places = pass_.places();
    const int64_t begin = topology().offset(places.first_layer);
    // Gradients of the layers and the output, which are next to each other, and of embeddings.
    std::vector<float> dense(topology().offset(places.output + 1) + 1 - begin);
    const engine::BackwardTarget target = {
        .gradients = [&](int64_t first, std::span<const float> gradient) {
          engine::AddScaled(1, gradient.data(), static_cast<int64_t>(gradient.size()),
                            dense.data() + (first - begin));
        }};
    const auto of_output = std::span(dense).subspan(topology().offset(places.output) - begin);
    std::vector<std::vector<float>> of_embeddings(
        bags.size(), std::vector<float>(pairs.users.size() * spec_.dimensions()));
    double loss = 0;
    for (size_t first = 0; first < pairs.users.size(); first += kChunk) {
      std::vector<float> scores(std::min<size_t>(kChunk, pairs.users.size() - first));
      const uint64_t key =
          base::StreamKey(step.seed, "autoint", {static_cast<uint64_t>(step.index), first});
      pass_.Forward(tensors(), bags, static_cast<int64_t>(first), &key, scores);
      loss += PairLoss(pairs, first, scores);
      pass_.Backward(tensors(), static_cast<int64_t>(first), scores, target, of_output,
                     of_embeddings);
    }
    for (size_t m = 0; m < bags.size(); ++m) {
      const size_t table = places.Table(m);
      EmitUses(sink, table, tensor(table), bags[m].ByRow(), of_embeddings[m].data());
    }
    for (size_t t = places.first_layer; t < places.users; ++t) {
      EmitRows(sink, t, tensor(t), {0, tensor(t).rows()},
               dense.data() + (topology().offset(t) - begin), threads());
    }
    return {.loss = loss, .examples = pairs.positives};
  }

 private:
  v1::AutoIntModel spec_;
  std::vector<Field> fields_;
  EpochOrder order_;
  AutoIntPass pass_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RecommenderModel>> MakeAutoInt(const v1::AutoIntModel& spec,
                                                              const ModelParts& parts) {
  auto model = std::make_unique<AutoInt>(spec, parts);
  ESPALIER_RETURN_IF_ERROR(model->status());
  return model;
}

}  // namespace espalier::worker::recommender
