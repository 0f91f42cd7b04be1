#include "worker/recommender/autoint.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/base/rng.h"
#include "worker/engine/dropout.h"
#include "worker/recommender/attention.h"
#include "worker/recommender/epoch_order.h"
#include "worker/recommender/pairs.h"
#include "worker/recommender/scoring/snapshot.h"
#include "worker/recommender/sinks.h"

namespace espalier::worker::recommender {
namespace {

using engine::AlignedBuffer;

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

// Forward and backward pass for up to kChunk examples.
class AutoIntPass {
 public:
  AutoIntPass(const v1::AutoIntModel& spec, std::vector<Field> fields, int threads)
      : dimensions_(spec.dimensions()),
        units_(spec.units()),
        places_(fields.size() - 2, spec.layers()),
        fields_(std::move(fields)),
        width_(static_cast<int64_t>(fields_.size()) * kChunk),
        dropout_(spec.dropout(), engine::DropoutScaling::kTraining, dimensions_, width_),
        embeddings_(dimensions_ * width_),
        embedding_deltas_(dimensions_ * width_) {
    int64_t inputs = dimensions_;
    for (int l = 0; l < spec.layers(); ++l) {
      layers_.push_back(std::make_unique<AttentionLayer>(
          AttentionShape{.inputs = inputs,
                         .units = units_,
                         .heads = spec.heads(),
                         .fields = static_cast<int64_t>(fields_.size()),
                         .segment = kChunk},
          threads));
      inputs = units_;
    }
  }

  const Places& places() const { return places_; }
  const std::vector<Field>& fields() const { return fields_; }

  // Scores of at most kChunk pairs; with dropout if there is a key.
  void Forward(std::span<const RowTensor> tensors, std::span<const int32_t> users,
               std::span<const int32_t> items, const uint64_t* dropout_key, float* scores) {
    const auto examples = static_cast<int64_t>(users.size());
    Embed(tensors, users, items);
    dropout_.set_active(dropout_key != nullptr);
    if (dropout_.active()) {
      dropout_.Draw(*dropout_key, {0, dimensions_});
      dropout_.Apply(embeddings_.data(), width_, width_, {0, dimensions_});
    }
    const float* x = embeddings_.data();
    for (size_t l = 0; l < layers_.size(); ++l) {
      layers_[l]->Forward(tensors[places_.first_layer + l].values(), x, examples);
      x = layers_[l]->output();
    }
    const float* weight = tensors[places_.output].values();
    std::fill_n(scores, examples, tensors[places_.output + 1].values()[0]);
    ForOutputs([&](int64_t input, int64_t offset) {
      for (int64_t n = 0; n < examples; ++n) scores[n] += weight[input] * x[offset + n];
    });
  }

  // Takes the gradient with respect to the scores of the last Forward() back. Adds to `dense`, the
  // gradients of layers, output and bias, and to `rows`, those of the rows that `touched` names:
  // one of each for every field.
  void Backward(std::span<const RowTensor> tensors, std::span<const int32_t> users,
                std::span<const int32_t> items, const float* of_scores,
                std::vector<std::vector<float>>& dense, const std::vector<TouchedRows>& touched,
                std::vector<std::vector<float>>& rows) {
    const auto examples = static_cast<int64_t>(users.size());
    AttentionLayer& last = *layers_.back();
    std::fill_n(last.delta(), units_ * width_, 0.0F);
    const float* weight = tensors[places_.output].values();
    std::vector<float>& of_weight = dense[layers_.size()];
    ForOutputs([&](int64_t input, int64_t offset) {
      double sum = 0;
      for (int64_t n = 0; n < examples; ++n) {
        sum += static_cast<double>(of_scores[n]) * last.output()[offset + n];
        last.delta()[offset + n] = of_scores[n] * weight[input];
      }
      of_weight[input] += static_cast<float>(sum);
    });
    dense.back()[0] += std::accumulate(of_scores, of_scores + examples, 0.0F);
    for (size_t l = layers_.size(); l-- > 0;) {
      const float* x = l == 0 ? embeddings_.data() : layers_[l - 1]->output();
      float* dx = l == 0 ? embedding_deltas_.data() : layers_[l - 1]->delta();
      layers_[l]->Backward(tensors[places_.first_layer + l].values(), x, examples, dense[l].data(),
                           dx);
    }
    dropout_.Apply(embedding_deltas_.data(), width_, width_, {0, dimensions_});
    for (size_t m = 0; m < fields_.size(); ++m) {
      AddToRows(m, users, items, touched[m], rows[m]);
    }
  }

 private:
  // Calls body(place in the output's weight, place in the last layer) for every unit and field.
  template <typename Body>
  void ForOutputs(const Body& body) const {
    for (int64_t m = 0; m < static_cast<int64_t>(fields_.size()); ++m) {
      for (int64_t unit = 0; unit < units_; ++unit) {
        body(m * units_ + unit, unit * width_ + m * kChunk);
      }
    }
  }

  void Embed(std::span<const RowTensor> tensors, std::span<const int32_t> users,
             std::span<const int32_t> items) {
    std::ranges::fill(embeddings_.span(), 0.0F);
    std::vector<float> row(dimensions_);
    for (size_t m = 0; m < fields_.size(); ++m) {
      const RowTensor& table = tensors[places_.Table(m)];
      float* column = embeddings_.data() + static_cast<int64_t>(m) * kChunk;
      for (size_t n = 0; n < users.size(); ++n, ++column) {
        const auto values = fields_[m].RowsOf(users[n], items[n]);
        for (const int32_t value : values) {
          table.Expand(value, row.data());
          for (int64_t d = 0; d < dimensions_; ++d) {
            column[d * width_] += row[d] / static_cast<float>(values.size());
          }
        }
      }
    }
  }

  void AddToRows(size_t m, std::span<const int32_t> users, std::span<const int32_t> items,
                 const TouchedRows& touched, std::vector<float>& rows) const {
    const float* column = embedding_deltas_.data() + static_cast<int64_t>(m) * kChunk;
    for (size_t n = 0; n < users.size(); ++n, ++column) {
      const auto values = fields_[m].RowsOf(users[n], items[n]);
      for (const int32_t value : values) {
        const auto k = std::ranges::lower_bound(touched.rows, value) - touched.rows.begin();
        for (int64_t d = 0; d < dimensions_; ++d) {
          rows[k * dimensions_ + d] += column[d * width_] / static_cast<float>(values.size());
        }
      }
    }
  }

  int64_t dimensions_;
  int64_t units_;
  Places places_;
  std::vector<Field> fields_;
  int64_t width_;
  engine::DropoutMask dropout_;
  AlignedBuffer embeddings_;
  AlignedBuffer embedding_deltas_;
  std::vector<std::unique_ptr<AttentionLayer>> layers_;
};

class AutoIntScorer final : public Scorer {
 public:
  AutoIntScorer(v1::AutoIntModel spec, std::vector<Field> fields,
                std::shared_ptr<const Snapshot> snapshot)
      : spec_(std::move(spec)),
        snapshot_(std::move(snapshot)),
        pass_(spec_, std::move(fields), 1) {}

  std::unique_ptr<Scorer> Clone() const override {
    return std::make_unique<AutoIntScorer>(spec_, pass_.fields(), snapshot_);
  }

  void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
             float* scores) override {
    std::vector<int32_t> items(num_items);
    std::iota(items.begin(), items.end(), static_cast<int32_t>(first_item));
    for (size_t u = 0; u < users.size(); ++u) ScoreItems(users[u], items, scores + u * num_items);
  }

  void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) override {
    const std::vector<int32_t> users(std::min<size_t>(items.size(), kChunk), user);
    for (size_t first = 0; first < items.size(); first += kChunk) {
      const size_t count = std::min<size_t>(kChunk, items.size() - first);
      pass_.Forward(snapshot_->tensors, std::span(users).first(count), items.subspan(first, count),
                    nullptr, scores + first);
    }
  }

 private:
  v1::AutoIntModel spec_;
  std::shared_ptr<const Snapshot> snapshot_;
  AutoIntPass pass_;
};

class AutoInt final : public RecommenderModel {
 public:
  AutoInt(const v1::AutoIntModel& spec, const ModelParts& parts)
      : RecommenderModel(parts),
        spec_(spec),
        order_(parts.train->size()),
        pass_(spec, FieldsOf(spec, parts), parts.threads) {}

  int64_t StepsPerEpoch(int64_t batch_size) const override { return order_.steps(batch_size); }

  std::unique_ptr<Scorer> MakeScorer(const Interactions&) const override {
    return std::make_unique<AutoIntScorer>(
        spec_, pass_.fields(), std::make_shared<const Snapshot>(shared_topology(), values()));
  }

 protected:
  StepResult Learn(const Step& step, GradientSink& sink) override {
    const Pairs pairs = DrawPairs(train(), order_.Of(step), spec_.negatives(), step);
    std::vector<float> scores(pairs.users.size());
    ForChunks(
        pairs,
        [&](size_t first, std::span<const int32_t> users, std::span<const int32_t> items,
            uint64_t key) { pass_.Forward(tensors(), users, items, &key, &scores[first]); },
        step);
    const double loss = PairLoss(pairs, scores.data());
    const std::vector<TouchedRows> touched = RowsOf(pairs);
    std::vector<std::vector<float>> rows;
    rows.reserve(touched.size());
    for (const TouchedRows& of : touched) rows.emplace_back(of.rows.size() * spec_.dimensions());
    std::vector<std::vector<float>> dense;
    const Places& places = pass_.places();
    dense.reserve(places.users - places.first_layer);
    for (size_t t = places.first_layer; t < places.users; ++t) {
      dense.emplace_back(tensor(t).stored());
    }
    // Activations are computed anew, chunk by chunk: they are larger than all else together.
    ForChunks(
        pairs,
        [&](size_t first, std::span<const int32_t> users, std::span<const int32_t> items,
            uint64_t key) {
          std::vector<float> again(users.size());
          pass_.Forward(tensors(), users, items, &key, again.data());
          pass_.Backward(tensors(), users, items, &scores[first], dense, touched, rows);
        },
        step);
    for (size_t m = 0; m < touched.size(); ++m) {
      const size_t table = places.Table(m);
      EmitRows(sink, table, tensor(table), touched[m], rows[m]);
    }
    for (size_t i = 0; i < dense.size(); ++i) {
      EmitStored(sink, places.first_layer + i, tensor(places.first_layer + i), dense[i].data(),
                 threads());
    }
    return {.loss = loss, .examples = pairs.positives};
  }

 private:
  template <typename Body>
  static void ForChunks(const Pairs& pairs, const Body& body, const Step& step) {
    for (size_t first = 0; first < pairs.users.size(); first += kChunk) {
      const size_t count = std::min<size_t>(kChunk, pairs.users.size() - first);
      const uint64_t key =
          base::StreamKey(step.seed, "autoint", {static_cast<uint64_t>(step.index), first});
      body(first, std::span(pairs.users).subspan(first, count),
           std::span(pairs.items).subspan(first, count), key);
    }
  }

  // The rows of each field that the batch names.
  std::vector<TouchedRows> RowsOf(const Pairs& pairs) const {
    std::vector<TouchedRows> touched;
    for (const Field& field : pass_.fields()) {
      std::vector<int32_t> named;
      for (size_t n = 0; n < pairs.users.size(); ++n) {
        const auto values = field.RowsOf(pairs.users[n], pairs.items[n]);
        named.insert(named.end(), values.begin(), values.end());
      }
      touched.emplace_back(named);
    }
    return touched;
  }

  v1::AutoIntModel spec_;
  EpochOrder order_;
  AutoIntPass pass_;
};

}  // namespace

std::unique_ptr<RecommenderModel> MakeAutoInt(const v1::AutoIntModel& spec,
                                              const ModelParts& parts) {
  return std::make_unique<AutoInt>(spec, parts);
}

}  // namespace espalier::worker::recommender
