#include "worker/recommender/neumf.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/check.h"
#include "common/base/rng.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/dropout.h"
#include "worker/engine/kernels/sparse_product.h"
#include "worker/engine/multiversion.h"
#include "worker/recommender/epoch_order.h"
#include "worker/recommender/pairs.h"
#include "worker/recommender/scoring/snapshot.h"
#include "worker/recommender/sinks.h"

namespace espalier::worker::recommender {
namespace {

using engine::AlignedBuffer;
using engine::kLanes;

// An odd number of cache lines, so that a part of every row spreads over the whole cache.
int64_t StrideFor(int64_t width) { return ((width + kLanes - 1) / kLanes | 1) * kLanes; }

std::shared_ptr<const tensor::Topology> FullTopology(int64_t rows, int64_t cols) {
  auto full = tensor::Topology::Full(rows, cols);
  ESPALIER_CHECK(full.ok(), "a layer of checked size");
  return std::make_shared<const tensor::Topology>(*std::move(full));
}

float SumOf(const double (&lanes)[kLanes]) {
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return static_cast<float>(sum);
}

// Sums of a multiple of kLanes numbers, in double: lane by lane, so that they can go on at once.
ESPALIER_MULTIVERSION
float Dot(const float* a, const float* b, int64_t size) {
  double lanes[kLanes] = {};
  for (int64_t m = 0; m < size; m += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += static_cast<double>(a[m + lane]) * b[m + lane];
    }
  }
  return SumOf(lanes);
}

// Clears `delta` where `out` is 0, and returns what is left of it in sum.
ESPALIER_MULTIVERSION
float ReluGradient(const float* __restrict out, int64_t size, float* __restrict delta) {
  for (int64_t m = 0; m < size; ++m) delta[m] = out[m] > 0 ? delta[m] : 0.0F;
  double lanes[kLanes] = {};
  for (int64_t m = 0; m < size; m += kLanes) {
    for (int64_t lane = 0; lane < kLanes; ++lane) lanes[lane] += delta[m + lane];
  }
  return SumOf(lanes);
}

// Where the tensors stand in the layout.
struct Places {
  explicit Places(size_t layers) : prediction(2 + 2 * layers) {}
  static constexpr size_t kGmfItems = 0;
  static constexpr size_t kMlpItems = 1;
  static size_t Weight(size_t layer) { return 2 + 2 * layer; }
  static size_t Bias(size_t layer) { return 3 + 2 * layer; }
  size_t prediction;
  size_t bias() const { return prediction + 1; }
  size_t gmf_users() const { return prediction + 2; }
  size_t mlp_users() const { return prediction + 3; }
};

// A fully connected ReLU layer. Matrices are [features][stride].
struct DenseLayer {
  DenseLayer(int64_t units, int64_t inputs, int64_t stride, double dropout, int threads)
      : units(units),
        inputs(inputs),
        product(FullTopology(units, inputs), stride, threads, engine::DetectIsa()),
        transposed(FullTopology(inputs, units), stride, threads, engine::DetectIsa()),
        input_dropout(dropout, engine::DropoutScaling::kTraining, inputs, stride),
        output(units * stride) {}

  int64_t units;
  int64_t inputs;
  engine::KernelSparseProduct product;
  engine::KernelSparseProduct transposed;
  engine::DropoutMask input_dropout;
  AlignedBuffer output;
};

// Forward and backward pass for up to `max_width` pairs.
class NeuMfPass {
 public:
  NeuMfPass(const v1::NeuMfModel& spec, int64_t max_width, int threads)
      : dimensions_(spec.dimensions()),
        stride_(StrideFor(max_width)),
        threads_(threads),
        places_(spec.hidden_size()),
        input_(2 * dimensions_ * stride_),
        gmf_(dimensions_ * stride_),
        scores_(stride_) {
    int64_t inputs = 2 * dimensions_;
    for (const int32_t units : spec.hidden()) {
      layers_.emplace_back(units, inputs, stride_, spec.dropout(), threads);
      inputs = units;
    }
  }

  const Places& places() const { return places_; }
  const float* scores() const { return scores_.data(); }

  // Scores of pairs; with dropout if there is a key.
  void Forward(std::span<const RowTensor> tensors, const TouchedRows& users,
               const TouchedRows& items, const uint64_t* dropout_key) {
    size_ = static_cast<int64_t>(users.index.size());
    width_ = (size_ + kLanes - 1) / kLanes * kLanes;
    gmf_users_ = users.Expand(tensors[places_.gmf_users()]);
    gmf_items_ = items.Expand(tensors[Places::kGmfItems]);
    const std::vector<float> mlp_users = users.Expand(tensors[places_.mlp_users()]);
    const std::vector<float> mlp_items = items.Expand(tensors[Places::kMlpItems]);
    float* of_user = input_.data();
    float* of_item = input_.data() + dimensions_ * stride_;
    // Example by example: its rows are scattered, those of the matrices go on.
    for (int64_t m = 0; m < size_; ++m) {
      const int64_t u = users.index[m] * dimensions_;
      const int64_t i = items.index[m] * dimensions_;
      for (int64_t d = 0; d < dimensions_; ++d) {
        gmf_.data()[d * stride_ + m] = gmf_users_[u + d] * gmf_items_[i + d];
        of_user[d * stride_ + m] = mlp_users[u + d];
        of_item[d * stride_ + m] = mlp_items[i + d];
      }
    }
    for (int64_t d = 0; d < dimensions_; ++d) {
      for (float* matrix : {gmf_.data(), of_user, of_item}) {
        std::fill(matrix + d * stride_ + size_, matrix + d * stride_ + width_, 0.0F);
      }
    }
    for (size_t l = 0; l < layers_.size(); ++l) ForwardLayer(l, tensors, dropout_key);
    Predict(tensors);
  }

  // Takes the gradient with respect to the scores, in place of them, back to all tensors.
  void Backward(std::span<const RowTensor> tensors, const TouchedRows& users,
                const TouchedRows& items, GradientSink& sink);

  float* delta() { return scores_.data(); }

 private:
  float* InputOf(size_t layer) {
    return layer == 0 ? input_.data() : layers_[layer - 1].output.data();
  }

  void ForwardLayer(size_t l, std::span<const RowTensor> tensors, const uint64_t* dropout_key) {
    DenseLayer& layer = layers_[l];
    layer.input_dropout.set_active(dropout_key != nullptr);
    if (layer.input_dropout.active()) {
      layer.input_dropout.Draw(base::StreamKey(*dropout_key, "dropout", {l}), {0, layer.inputs});
      layer.input_dropout.Apply(InputOf(l), stride_, width_, {0, layer.inputs});
    }
    layer.product.Multiply(tensors[Places::Weight(l)].values(), InputOf(l), width_,
                           layer.output.data());
    const float* bias = tensors[Places::Bias(l)].values();
    for (int64_t unit = 0; unit < layer.units; ++unit) {
      float* out = layer.output.data() + unit * stride_;
      for (int64_t m = 0; m < size_; ++m) out[m] = std::max(out[m] + bias[unit], 0.0F);
      std::fill(out + size_, out + width_, 0.0F);
    }
  }

  // Rows of the prediction's input: the product of embeddings, then the last layer.
  int64_t features() const {
    return dimensions_ + (layers_.empty() ? 2 * dimensions_ : layers_.back().units);
  }
  float* Feature(int64_t f) {
    if (f < dimensions_) return gmf_.data() + f * stride_;
    return InputOf(layers_.size()) + (f - dimensions_) * stride_;
  }

  void Predict(std::span<const RowTensor> tensors) {
    const float* weight = tensors[places_.prediction].values();
    std::fill_n(scores_.data(), size_, tensors[places_.bias()].values()[0]);
    for (int64_t f = 0; f < features(); ++f) {
      const float* feature = Feature(f);
      for (int64_t m = 0; m < size_; ++m) scores_.data()[m] += weight[f] * feature[m];
    }
    std::fill(scores_.data() + size_, scores_.data() + width_, 0.0F);
  }

  std::vector<std::vector<float>> BackwardLayers(std::span<const RowTensor> tensors,
                                                 AlignedBuffer& delta);

  int64_t dimensions_;
  int64_t stride_;
  int threads_;
  Places places_;
  int64_t size_ = 0;
  int64_t width_ = 0;
  std::vector<DenseLayer> layers_;
  AlignedBuffer input_;  // user's embedding, then the item's
  AlignedBuffer gmf_;
  AlignedBuffer scores_;
  std::vector<float> gmf_users_;
  std::vector<float> gmf_items_;
};

// Adds column m of `dimensions` rows of `matrix`, times factor(m, d), to the row of example m.
template <typename Factor>
std::vector<float> SumByRow(const TouchedRows& touched, const float* matrix, int64_t stride,
                            int64_t dimensions, const Factor& factor) {
  std::vector<float> sums(touched.rows.size() * dimensions);
  for (size_t m = 0; m < touched.index.size(); ++m) {
    float* sum = sums.data() + touched.index[m] * dimensions;
    for (int64_t d = 0; d < dimensions; ++d) {
      sum[d] += matrix[d * stride + static_cast<int64_t>(m)] * factor(m, d);
    }
  }
  return sums;
}

// Gradients of the layers' weights and biases, in layout order; `delta`, of the perceptron's
// output, becomes that of its input.
std::vector<std::vector<float>> NeuMfPass::BackwardLayers(std::span<const RowTensor> tensors,
                                                          AlignedBuffer& delta) {
  std::vector<std::vector<float>> gradients(2 * layers_.size());
  for (size_t l = layers_.size(); l-- > 0;) {
    DenseLayer& layer = layers_[l];
    std::vector<float> bias(layer.units);
    for (int64_t unit = 0; unit < layer.units; ++unit) {
      bias[unit] =
          ReluGradient(layer.output.data() + unit * stride_, width_, delta.data() + unit * stride_);
    }
    std::vector<float> weight(layer.units * layer.inputs);
    layer.product.Gradient(delta.data(), InputOf(l), width_, weight.data());
    const float* values = tensors[Places::Weight(l)].values();
    std::vector<float> transposed(layer.units * layer.inputs);
    for (int64_t o = 0; o < layer.units; ++o) {
      for (int64_t i = 0; i < layer.inputs; ++i) {
        transposed[i * layer.units + o] = values[o * layer.inputs + i];
      }
    }
    AlignedBuffer below(layer.inputs * stride_);
    layer.transposed.Multiply(transposed.data(), delta.data(), width_, below.data());
    layer.input_dropout.Apply(below.data(), stride_, width_, {0, layer.inputs});
    delta = std::move(below);
    gradients[2 * l] = std::move(weight);
    gradients[2 * l + 1] = std::move(bias);
  }
  return gradients;
}

void NeuMfPass::Backward(std::span<const RowTensor> tensors, const TouchedRows& users,
                         const TouchedRows& items, GradientSink& sink) {
  const float* of_score = scores_.data();
  std::vector<float> prediction(features());
  for (int64_t f = 0; f < features(); ++f) {
    prediction[f] = Dot(of_score, Feature(f), width_);
  }
  double bias_sum = 0;
  for (int64_t m = 0; m < size_; ++m) bias_sum += of_score[m];
  const auto bias = static_cast<float>(bias_sum);
  const float* weight = tensors[places_.prediction].values();
  AlignedBuffer gmf(dimensions_ * stride_);
  AlignedBuffer delta((features() - dimensions_) * stride_);
  for (int64_t f = 0; f < features(); ++f) {
    float* to =
        f < dimensions_ ? gmf.data() + f * stride_ : delta.data() + (f - dimensions_) * stride_;
    for (int64_t m = 0; m < size_; ++m) to[m] = of_score[m] * weight[f];
  }
  const std::vector<std::vector<float>> of_layers = BackwardLayers(tensors, delta);
  const auto one = [](size_t, int64_t) { return 1.0F; };
  const auto of_user = [&](size_t m, int64_t d) {
    return gmf_users_[users.index[m] * dimensions_ + d];
  };
  const auto of_item = [&](size_t m, int64_t d) {
    return gmf_items_[items.index[m] * dimensions_ + d];
  };
  const float* mlp_items = delta.data() + dimensions_ * stride_;
  const auto emit = [&](size_t index, const TouchedRows& touched, const std::vector<float>& sums) {
    EmitRows(sink, index, tensors[index], touched, sums);
  };
  emit(Places::kGmfItems, items, SumByRow(items, gmf.data(), stride_, dimensions_, of_user));
  emit(Places::kMlpItems, items, SumByRow(items, mlp_items, stride_, dimensions_, one));
  emit(places_.gmf_users(), users, SumByRow(users, gmf.data(), stride_, dimensions_, of_item));
  emit(places_.mlp_users(), users, SumByRow(users, delta.data(), stride_, dimensions_, one));
  for (size_t i = 0; i < of_layers.size(); ++i) {
    EmitStored(sink, 2 + i, tensors[2 + i], of_layers[i].data(), threads_);
  }
  EmitStored(sink, places_.prediction, tensors[places_.prediction], prediction.data(), threads_);
  EmitStored(sink, places_.bias(), tensors[places_.bias()], &bias, threads_);
}

class NeuMfScorer final : public Scorer {
 public:
  NeuMfScorer(v1::NeuMfModel spec, std::shared_ptr<const Snapshot> snapshot)
      : spec_(std::move(spec)), snapshot_(std::move(snapshot)), pass_(spec_, kWidth, 1) {}

  std::unique_ptr<Scorer> Clone() const override {
    return std::make_unique<NeuMfScorer>(spec_, snapshot_);
  }

  void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
             float* scores) override {
    std::vector<int32_t> items(num_items);
    std::iota(items.begin(), items.end(), static_cast<int32_t>(first_item));
    for (size_t u = 0; u < users.size(); ++u) ScoreItems(users[u], items, scores + u * num_items);
  }

  void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) override {
    const std::vector<int32_t> users(std::min<size_t>(items.size(), kWidth), user);
    for (size_t first = 0; first < items.size(); first += kWidth) {
      const size_t count = std::min<size_t>(kWidth, items.size() - first);
      pass_.Forward(snapshot_->tensors, TouchedRows(std::span(users).first(count)),
                    TouchedRows(items.subspan(first, count)), nullptr);
      std::copy_n(pass_.scores(), count, scores + first);
    }
  }

 private:
  static constexpr int64_t kWidth = 512;
  v1::NeuMfModel spec_;
  std::shared_ptr<const Snapshot> snapshot_;
  NeuMfPass pass_;
};

class NeuMf final : public RecommenderModel {
 public:
  NeuMf(const v1::NeuMfModel& spec, const ModelParts& parts)
      : RecommenderModel(parts),
        spec_(spec),
        order_(parts.train->size()),
        pass_(spec, std::min(parts.max_batch, parts.train->size()) * (1 + spec.negatives()),
              parts.threads) {}

  int64_t StepsPerEpoch(int64_t batch_size) const override { return order_.steps(batch_size); }

  std::unique_ptr<Scorer> MakeScorer(const Interactions&) const override {
    return std::make_unique<NeuMfScorer>(
        spec_, std::make_shared<const Snapshot>(shared_topology(), values()));
  }

 protected:
  StepResult Learn(const Step& step, GradientSink& sink) override {
    const Pairs pairs = DrawPairs(train(), order_.Of(step), spec_.negatives(), step);
    const TouchedRows users(pairs.users);
    const TouchedRows items(pairs.items);
    const uint64_t key = base::StreamKey(step.seed, "neumf", {static_cast<uint64_t>(step.index)});
    pass_.Forward(tensors(), users, items, &key);
    const double loss = PairLoss(pairs, pass_.delta());
    pass_.Backward(tensors(), users, items, sink);
    return {.loss = loss, .examples = pairs.positives};
  }

 private:
  v1::NeuMfModel spec_;
  EpochOrder order_;
  NeuMfPass pass_;
};

}  // namespace

std::unique_ptr<RecommenderModel> MakeNeuMf(const v1::NeuMfModel& spec, const ModelParts& parts) {
  return std::make_unique<NeuMf>(spec, parts);
}

}  // namespace espalier::worker::recommender
