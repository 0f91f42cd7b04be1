#include "worker/recommender/multvae.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/parallel.h"
#include "worker/engine/weight_matrix.h"
#include "worker/recommender/epoch_order.h"
#include "worker/recommender/lightgcn.h"
#include "worker/recommender/scoring/multvae_scorer.h"
#include "worker/recommender/sinks.h"

namespace espalier::worker::recommender {
namespace {

using engine::AlignedBuffer;
using engine::Extent;
using engine::kLanes;
using engine::ParallelRows;
using engine::RowRange;

int64_t StrideFor(int64_t width) { return ((width + kLanes - 1) / kLanes | 1) * kLanes; }

// One fully connected layer: y = W x + b. Matrices are [features][stride].
class Layer {
 public:
  static absl::StatusOr<std::unique_ptr<Layer>> Create(engine::Backend& backend,
                                                       const tensor::ModelTopology& topology,
                                                       size_t weight, int64_t stride, Extent extent,
                                                       int threads) {
    const tensor::TensorSpec& spec = topology.layout()[weight];
    auto layer = std::make_unique<Layer>();
    layer->weight_ = weight;
    layer->stride_ = stride;
    layer->threads_ = threads;
    if (topology.is_sparse(weight)) {
      ESPALIER_ASSIGN_OR_RETURN(layer->matrix_,
                                engine::MakeSparseMatrix(backend, topology.shared_topology(weight),
                                                         stride, true, threads));
    } else {
      ESPALIER_ASSIGN_OR_RETURN(
          layer->matrix_,
          engine::MakeDenseMatrix(backend, spec.rows, spec.cols, stride, true, extent));
    }
    layer->output_ = AlignedBuffer(spec.rows * stride);
    layer->delta_ = AlignedBuffer(spec.rows * stride);
    return layer;
  }

  float* output() { return output_.data(); }
  float* delta() { return delta_.data(); }

  void Forward(std::span<const RowTensor> tensors, const float* x, Extent extent) {
    matrix_->Forward(tensors[weight_].values(), x, extent, output());
    const float* bias = tensors[weight_ + 1].values();
    ForRows(tensors, [&](int64_t row) {
      float* y = output() + row * stride_;
      for (int64_t b = 0; b < extent.width; ++b) y[b] += bias[row];
    });
  }

  // dx = Wᵀ · delta().
  void InputGradient(std::span<const RowTensor> tensors, Extent extent, float* dx) {
    std::vector<float> scratch(matrix_->scratch());
    matrix_->InputGradient(tensors[weight_].values(), delta(), extent, dx, scratch.data());
  }

  void Emit(std::span<const RowTensor> tensors, const float* x, Extent extent, GradientSink& sink) {
    const RowTensor& weight = tensors[weight_];
    if (sink.wants_all(weight_)) {
      EmitAll(weight, x, extent, sink);
    } else {
      std::vector<float> gradient(weight.stored());
      std::vector<float> scratch(matrix_->scratch());
      matrix_->WeightGradient(delta(), x, extent, scratch.data(),
                              [&](int64_t first, std::span<const float> piece) {
                                std::ranges::copy(piece, gradient.begin() + first);
                              });
      EmitStored(sink, weight_, weight, gradient.data(), threads_);
    }
    std::vector<float> bias(weight.rows());
    ForRows(tensors, [&](int64_t row) {
      const float* of_row = delta() + row * stride_;
      bias[row] = std::accumulate(of_row, of_row + extent.size, 0.0F);
    });
    EmitStored(sink, weight_ + 1, tensors[weight_ + 1], bias.data(), threads_);
  }

 private:
  template <typename Body>
  void ForRows(std::span<const RowTensor> tensors, const Body& body) const {
    ParallelRows(threads_, tensors[weight_].rows(), [&](RowRange range) {
      for (int64_t row = range.begin; row < range.end; ++row) body(row);
    });
  }

  // Row by row, at all positions.
  void EmitAll(const RowTensor& weight, const float* x, Extent extent, GradientSink& sink) {
    const engine::KernelTable& kernels = engine::Kernels(engine::DetectIsa());
    std::vector<int32_t> columns(weight.cols());
    std::iota(columns.begin(), columns.end(), 0);
    const int32_t begin = 0;
    const auto end = static_cast<int32_t>(weight.cols());
    std::vector<float> gradient(weight.cols());
    const int64_t blocks = extent.width / kLanes;
    for (int64_t row = 0; row < weight.rows(); ++row) {
      for (int64_t first = 0; first < blocks; first += kernels.max_blocks) {
        kernels.sddmm({&begin, &end, columns.data()}, delta() + row * stride_, x, stride_,
                      {first, std::min(kernels.max_blocks, blocks - first)}, first > 0,
                      gradient.data(), {0, 1});
      }
      sink.AllOf(weight_, row, gradient.data());
    }
  }

  size_t weight_ = 0;
  int64_t stride_ = 0;
  int threads_ = 1;
  std::unique_ptr<engine::WeightMatrix> matrix_;
  AlignedBuffer output_;
  AlignedBuffer delta_;
};

class MultVae final : public RecommenderModel {
 public:
  MultVae(const v1::MultVaeModel& spec, const ModelParts& parts, int64_t max_users)
      : RecommenderModel(parts),
        spec_(spec),
        hidden_(spec.hidden()),
        latent_(spec.latent()),
        stride_(StrideFor(max_users)),
        active_users_(ActiveUsers(*parts.train)),
        order_(static_cast<int64_t>(active_users_.size())),
        encoded_(hidden_ * stride_),
        encoded_delta_(hidden_ * stride_),
        z_(latent_ * stride_) {}

  absl::Status AddLayers(int64_t max_users) {
    backend_ = engine::MakeOneDnnBackend(threads());
    const Extent extent = {max_users, (max_users + kLanes - 1) / kLanes * kLanes};
    for (auto& [layer, weight] : {std::pair{&to_latent_, size_t{kVaeLatent}},
                                  {&to_hidden_, kVaeHidden},
                                  {&to_items_, kVaeItems}}) {
      ESPALIER_ASSIGN_OR_RETURN(
          *layer, Layer::Create(*backend_, topology(), weight, stride_, extent, threads()));
    }
    return absl::OkStatus();
  }

  int64_t StepsPerEpoch(int64_t batch_size) const override { return order_.steps(batch_size); }

  std::unique_ptr<Scorer> MakeScorer(const Interactions& history) const override {
    return MakeVaeScorer(spec_, shared_topology(), values(), history);
  }

 protected:
  StepResult Learn(const Step& step, GradientSink& sink) override {
    std::vector<int32_t> users;
    for (const int32_t place : order_.Of(step)) users.push_back(active_users_[place]);
    const auto size = static_cast<int64_t>(users.size());
    const Extent extent = {size, (size + kLanes - 1) / kLanes * kLanes};
    std::vector<VaeDraw> draws;
    for (int64_t n = 0; n < size; ++n) {
      draws.push_back(DrawVae(spec_, step, n, train().CountOf(users[n])));
    }
    Encode(users, draws, extent);
    to_latent_->Forward(tensors(), encoded_.data(), extent);
    Sample(draws, extent);
    to_hidden_->Forward(tensors(), z_.data(), extent);
    Tanh(to_hidden_->output(), extent);
    to_items_->Forward(tensors(), to_hidden_->output(), extent);
    const double weight = KlWeight(spec_, step) / static_cast<double>(size);
    const double loss = Likelihood(users, extent) + weight * Divergence(extent);
    BackwardToInput(draws, weight, extent);
    to_items_->Emit(tensors(), to_hidden_->output(), extent, sink);
    to_hidden_->Emit(tensors(), z_.data(), extent, sink);
    to_latent_->Emit(tensors(), encoded_.data(), extent, sink);
    EmitInput(users, draws, extent, sink);
    return {.loss = loss, .examples = size};
  }

 private:
  void Tanh(float* y, Extent extent) const {
    ParallelRows(threads(), hidden_, [&](RowRange rows) {
      for (int64_t row = rows.begin; row < rows.end; ++row) {
        float* of_row = y + row * stride_;
        for (int64_t b = 0; b < extent.size; ++b) of_row[b] = std::tanh(of_row[b]);
        std::fill(of_row + extent.size, of_row + extent.width, 0.0F);
      }
    });
  }

  // delta ∘= 1 − y², the derivative of tanh.
  void TanhGradient(const float* y, float* delta, Extent extent) const {
    for (int64_t row = 0; row < hidden_; ++row) {
      for (int64_t b = 0; b < extent.width; ++b) {
        const float out = y[row * stride_ + b];
        delta[row * stride_ + b] *= 1.0F - out * out;
      }
    }
  }

  // encoded_ = tanh(Σ over the user's items of input · row of the item + b).
  void Encode(std::span<const int32_t> users, const std::vector<VaeDraw>& draws, Extent extent) {
    ParallelRows(threads(), extent.size, [&](RowRange range) {
      std::vector<float> sum(hidden_);
      for (int64_t n = range.begin; n < range.end; ++n) {
        SumOfItems(tensor(kVaeInput), tensor(kVaeInput + 1), train().Of(users[n]), draws[n].inputs,
                   sum.data());
        for (int64_t h = 0; h < hidden_; ++h) encoded_.data()[h * stride_ + n] = sum[h];
      }
    });
    Tanh(encoded_.data(), extent);
  }

  // z = μ + exp(½ log σ²) ∘ ε.
  void Sample(const std::vector<VaeDraw>& draws, Extent extent) {
    for (int64_t l = 0; l < latent_; ++l) {
      const float* mean = to_latent_->output() + l * stride_;
      const float* log_variance = mean + latent_ * stride_;
      float* z = z_.data() + l * stride_;
      for (int64_t n = 0; n < extent.size; ++n) {
        z[n] = mean[n] + std::exp(0.5F * log_variance[n]) * draws[n].noise[l];
      }
      std::fill(z + extent.size, z + extent.width, 0.0F);
    }
  }

  // Mean over users of −Σ log softmax at their items; fills the delta of the scores.
  double Likelihood(std::span<const int32_t> users, Extent extent) {
    const int64_t items = train().items();
    const float* scores = to_items_->output();
    float* delta = to_items_->delta();
    std::vector<float> top(extent.width, -std::numeric_limits<float>::infinity());
    std::vector<double> sum(extent.width);
    for (int64_t i = 0; i < items; ++i) {
      const float* row = scores + i * stride_;
      for (int64_t n = 0; n < extent.size; ++n) top[n] = std::max(top[n], row[n]);
    }
    for (int64_t i = 0; i < items; ++i) {
      for (int64_t n = 0; n < extent.size; ++n) {
        const float e = std::exp(scores[i * stride_ + n] - top[n]);
        delta[i * stride_ + n] = e;
        sum[n] += e;
      }
    }
    const auto batch = static_cast<double>(extent.size);
    std::vector<float> factor(extent.width);
    double loss = 0;
    for (int64_t n = 0; n < extent.size; ++n) {
      factor[n] =
          static_cast<float>(static_cast<double>(train().CountOf(users[n])) / (sum[n] * batch));
      for (const int32_t item : train().Of(users[n])) {
        loss -= static_cast<double>(scores[item * stride_ + n]) - top[n] - std::log(sum[n]);
      }
    }
    for (int64_t i = 0; i < items; ++i) {
      for (int64_t n = 0; n < extent.size; ++n) delta[i * stride_ + n] *= factor[n];
      std::fill(delta + i * stride_ + extent.size, delta + i * stride_ + extent.width, 0.0F);
    }
    for (int64_t n = 0; n < extent.size; ++n) {
      for (const int32_t item : train().Of(users[n])) {
        delta[item * stride_ + n] -= static_cast<float>(1 / batch);
      }
    }
    return loss / batch;
  }

  // Σ over users of KL(N(μ, σ²) ‖ N(0, 1)).
  double Divergence(Extent extent) const {
    double sum = 0;
    for (int64_t l = 0; l < latent_; ++l) {
      const float* mean = to_latent_->output() + l * stride_;
      const float* log_variance = mean + latent_ * stride_;
      for (int64_t n = 0; n < extent.size; ++n) {
        const double m = mean[n];
        const double v = log_variance[n];
        sum -= 0.5 * (1 + v - m * m - std::exp(v));
      }
    }
    return sum;
  }

  void BackwardToInput(const std::vector<VaeDraw>& draws, double kl_weight, Extent extent) {
    to_items_->InputGradient(tensors(), extent, to_hidden_->delta());
    TanhGradient(to_hidden_->output(), to_hidden_->delta(), extent);
    AlignedBuffer z_delta(latent_ * stride_);
    to_hidden_->InputGradient(tensors(), extent, z_delta.data());
    const auto weight = static_cast<float>(kl_weight);
    for (int64_t l = 0; l < latent_; ++l) {
      const float* mean = to_latent_->output() + l * stride_;
      const float* log_variance = mean + latent_ * stride_;
      const float* dz = z_delta.data() + l * stride_;
      float* mean_delta = to_latent_->delta() + l * stride_;
      float* variance_delta = mean_delta + latent_ * stride_;
      for (int64_t n = 0; n < extent.size; ++n) {
        const float deviation = std::exp(0.5F * log_variance[n]);
        mean_delta[n] = dz[n] + weight * mean[n];
        variance_delta[n] = 0.5F * (dz[n] * draws[n].noise[l] * deviation +
                                    weight * (deviation * deviation - 1.0F));
      }
      std::fill(mean_delta + extent.size, mean_delta + extent.width, 0.0F);
      std::fill(variance_delta + extent.size, variance_delta + extent.width, 0.0F);
    }
    to_latent_->InputGradient(tensors(), extent, encoded_delta_.data());
    TanhGradient(encoded_.data(), encoded_delta_.data(), extent);
  }

  // Gradients of the rows of the batch's items: Σ over users of input · delta.
  void EmitInput(std::span<const int32_t> users, const std::vector<VaeDraw>& draws, Extent extent,
                 GradientSink& sink) const {
    struct Use {
      int32_t item;
      int32_t user;
      float input;
    };
    std::vector<Use> uses;
    for (int64_t n = 0; n < extent.size; ++n) {
      const auto items = train().Of(users[n]);
      for (size_t k = 0; k < items.size(); ++k) {
        if (draws[n].inputs[k] != 0.0F) {
          uses.push_back({items[k], static_cast<int32_t>(n), draws[n].inputs[k]});
        }
      }
    }
    std::ranges::stable_sort(uses, {}, &Use::item);
    const RowTensor& table = tensor(kVaeInput);
    const bool all = sink.wants_all(kVaeInput);
    std::vector<float> gradient(hidden_);
    for (size_t first = 0; first < uses.size();) {
      const int32_t item = uses[first].item;
      size_t last = first;
      while (last < uses.size() && uses[last].item == item) ++last;
      const bool some = table.is_sparse() && !all;
      const std::span<const int32_t> columns =
          some ? table.ColumnsOf(item) : std::span<const int32_t>();
      const int64_t count = some ? static_cast<int64_t>(columns.size()) : hidden_;
      std::fill_n(gradient.begin(), count, 0.0F);
      for (size_t use = first; use < last; ++use) {
        const float* delta = encoded_delta_.data() + uses[use].user;
        for (int64_t k = 0; k < count; ++k) {
          gradient[k] += uses[use].input * delta[(some ? columns[k] : k) * stride_];
        }
      }
      if (all) {
        sink.AllOf(kVaeInput, item, gradient.data());
      } else {
        sink.StoredOf(kVaeInput, item, 1, gradient.data());
      }
      first = last;
    }
    std::vector<float> bias(hidden_);
    for (int64_t h = 0; h < hidden_; ++h) {
      const float* row = encoded_delta_.data() + h * stride_;
      bias[h] = std::accumulate(row, row + extent.size, 0.0F);
    }
    EmitStored(sink, kVaeInput + 1, tensor(kVaeInput + 1), bias.data(), threads());
  }

  v1::MultVaeModel spec_;
  int64_t hidden_;
  int64_t latent_;
  int64_t stride_;
  std::vector<int32_t> active_users_;
  EpochOrder order_;
  std::unique_ptr<engine::Backend> backend_;
  std::unique_ptr<Layer> to_latent_;
  std::unique_ptr<Layer> to_hidden_;
  std::unique_ptr<Layer> to_items_;
  AlignedBuffer encoded_;
  AlignedBuffer encoded_delta_;
  AlignedBuffer z_;
};

}  // namespace

VaeDraw DrawVae(const v1::MultVaeModel& spec, const Step& step, int64_t n, int64_t items) {
  base::Rng rng(base::StreamKey(step.seed, "multvae",
                                {static_cast<uint64_t>(step.index), static_cast<uint64_t>(n)}));
  const double kept = 1 - spec.dropout();
  const auto input = static_cast<float>(1 / (std::sqrt(static_cast<double>(items)) * kept));
  VaeDraw draw;
  for (int64_t k = 0; k < items; ++k) draw.inputs.push_back(rng.Uniform() < kept ? input : 0.0F);
  for (int64_t l = 0; l < spec.latent(); ++l) {
    draw.noise.push_back(static_cast<float>(rng.Normal()));
  }
  return draw;
}

double KlWeight(const v1::MultVaeModel& spec, const Step& step) {
  if (step.index >= spec.anneal_steps()) return spec.kl_weight();
  return std::min(spec.kl_weight(),
                  static_cast<double>(step.index) / static_cast<double>(spec.anneal_steps()));
}

absl::StatusOr<std::unique_ptr<RecommenderModel>> MakeMultVae(const v1::MultVaeModel& spec,
                                                              const ModelParts& parts) {
  const int64_t max_users = std::min(parts.max_batch, parts.train->users());
  auto model = std::make_unique<MultVae>(spec, parts, max_users);
  ESPALIER_RETURN_IF_ERROR(model->AddLayers(max_users));
  return model;
}

}  // namespace espalier::worker::recommender
