#include "worker/recommender/multvae.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "worker/engine/activation.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/loss.h"
#include "worker/engine/parallel.h"
#include "worker/engine/rows/row_bags.h"
#include "worker/recommender/epoch_order.h"
#include "worker/recommender/layers.h"
#include "worker/recommender/lightgcn.h"
#include "worker/recommender/scoring/multvae_scorer.h"
#include "worker/recommender/sinks.h"

namespace espalier::worker::recommender {
namespace {

using engine::AlignedBuffer;
using engine::Extent;
using engine::ParallelRows;
using engine::RowRange;
using Lease = engine::Workspace::Lease;

class MultVae final : public RecommenderModel {
 public:
  MultVae(const v1::MultVaeModel& spec, const ModelParts& parts, int64_t max_users)
      : RecommenderModel(parts),
        spec_(spec),
        hidden_(spec.hidden()),
        latent_(spec.latent()),
        active_users_(ActiveUsers(*parts.train)),
        order_(static_cast<int64_t>(active_users_.size())),
        inner_(*parts.topology, kVaeLatent, max_users, parts.threads),
        outer_(*parts.topology, kVaeItems, max_users, parts.threads),
        stride_(inner_.stride()),
        encoded_(hidden_ * stride_),
        z_(latent_ * stride_) {
    AddVaeLayers(spec, inner_);
    outer_.Add({{.units = parts.train->items(), .activation = engine::Activation::kLinear}},
               hidden_);
  }

  absl::Status status() const { return inner_.status().ok() ? outer_.status() : inner_.status(); }
  int64_t StepsPerEpoch(int64_t batch_size) const override { return order_.steps(batch_size); }

  std::unique_ptr<Scorer> MakeScorer(const Interactions& history) const override {
    return MakeVaeScorer(spec_, shared_topology(), values(), history);
  }

 protected:
  StepResult Learn(const Step& step, RowSink& sink) override {
    std::vector<int32_t> users;
    for (const int32_t place : order_.Of(step)) users.push_back(active_users_[place]);
    const auto size = static_cast<int64_t>(users.size());
    std::vector<VaeDraw> draws;
    engine::RowBags inputs;
    for (int64_t n = 0; n < size; ++n) {
      draws.push_back(DrawVae(spec_, step, n, train().CountOf(users[n])));
      inputs.Add(train().Of(users[n]), draws.back().inputs);
    }
    const engine::Pass pass = Layers::PassOf(tensors(), {size, engine::WholeLanes(size)}, nullptr);
    EncodeVae(tensors(), inputs, pass.extent, stride_, encoded_.data(), threads());
    const float* latent = inner_.Forward(kVaeToLatent, pass, encoded_.data());
    Sample(latent, draws, pass.extent);
    const float* decoded = inner_.Forward(kVaeToHidden, pass, z_.data());
    const float* scores = outer_.Forward(0, pass, decoded);
    const double weight = KlWeight(spec_, step) / static_cast<double>(size);
    Lease of_scores(outer_.workspace());
    const double loss = Likelihood(users, scores, pass.extent, of_scores.data()) +
                        weight * Divergence(latent, pass.extent);

    LayerGradients gradients(topology(), tensors(), stride_, sink, threads());
    const engine::BackwardTarget target = gradients.Target(pass.extent);
    Lease of_decoded(inner_.workspace());
    Lease of_z(inner_.workspace());
    Lease of_latent(inner_.workspace());
    outer_.Backward(0, pass, decoded, of_scores.data(), of_decoded.data(), target);
    inner_.Backward(kVaeToHidden, pass, z_.data(), of_decoded.data(), of_z.data(), target);
    LatentGradient(latent, of_z.data(), draws, static_cast<float>(weight), pass.extent,
                   of_latent.data());
    float* of_encoded = of_decoded.data();
    inner_.Backward(kVaeToLatent, pass, encoded_.data(), of_latent.data(), of_encoded, target);
    EmitInput(inputs, pass.extent, of_encoded, sink);
    return {.loss = loss, .examples = size};
  }

 private:
  // Calls body(l, μ, log σ²) with the rows of each latent variable.
  template <typename Body>
  void ForLatent(const float* latent, const Body& body) const {
    for (int64_t l = 0; l < latent_; ++l) {
      body(l, latent + l * stride_, latent + (latent_ + l) * stride_);
    }
  }

  // z = μ + exp(½ log σ²) ∘ ε.
  void Sample(const float* latent, const std::vector<VaeDraw>& draws, Extent extent) {
    ForLatent(latent, [&](int64_t l, const float* mean, const float* log_variance) {
      float* z = z_.data() + l * stride_;
      for (int64_t n = 0; n < extent.size; ++n) {
        z[n] = mean[n] + std::exp(0.5F * log_variance[n]) * draws[n].noise[l];
      }
      std::fill(z + extent.size, z + extent.width, 0.0F);
    });
  }

  // Mean over users of −Σ log softmax at their items; fills the delta of the scores.
  double Likelihood(std::span<const int32_t> users, const float* scores, Extent extent,
                    float* delta) const {
    const int64_t items = train().items();
    const engine::ColumnSoftmax softmax =
        engine::SoftmaxOfColumns(scores, items, stride_, extent.size, delta);
    const auto batch = static_cast<double>(extent.size);
    std::vector<float> factor(extent.width);  // 0 where there is no user
    double loss = 0;
    for (int64_t n = 0; n < extent.size; ++n) {
      factor[n] = static_cast<float>(static_cast<double>(train().CountOf(users[n])) /
                                     (softmax.sum[n] * batch));
      const double normaliser = softmax.top[n] + std::log(softmax.sum[n]);
      for (const int32_t item : train().Of(users[n])) {
        loss += normaliser - scores[item * stride_ + n];
      }
    }
    for (int64_t i = 0; i < items; ++i) {
      float* row = delta + i * stride_;
      for (int64_t n = 0; n < extent.size; ++n) row[n] *= factor[n];
      std::fill(row + extent.size, row + extent.width, 0.0F);
    }
    for (int64_t n = 0; n < extent.size; ++n) {
      for (const int32_t item : train().Of(users[n])) {
        delta[item * stride_ + n] -= static_cast<float>(1 / batch);
      }
    }
    return loss / batch;
  }

  // Σ over users of KL(N(μ, σ²) ‖ N(0, 1)).
  double Divergence(const float* latent, Extent extent) const {
    double sum = 0;
    ForLatent(latent, [&](int64_t, const float* mean, const float* log_variance) {
      for (int64_t n = 0; n < extent.size; ++n) {
        const double m = mean[n];
        const double v = log_variance[n];
        sum -= 0.5 * (1 + v - m * m - std::exp(v));
      }
    });
    return sum;
  }

  // The gradient of μ and log σ², from that of z and the divergence.
  void LatentGradient(const float* latent, const float* of_z, const std::vector<VaeDraw>& draws,
                      float kl_weight, Extent extent, float* of_latent) const {
    std::fill_n(of_latent, 2 * latent_ * stride_, 0.0F);
    ForLatent(latent, [&](int64_t l, const float* mean, const float* log_variance) {
      const float* dz = of_z + l * stride_;
      float* of_mean = of_latent + l * stride_;
      float* of_variance = of_mean + latent_ * stride_;
      for (int64_t n = 0; n < extent.size; ++n) {
        const float deviation = std::exp(0.5F * log_variance[n]);
        of_mean[n] = dz[n] + kl_weight * mean[n];
        of_variance[n] = 0.5F * (dz[n] * draws[n].noise[l] * deviation +
                                 kl_weight * (deviation * deviation - 1.0F));
      }
    });
  }

  // Gradients of the input's rows and bias, from that of encoded_.
  void EmitInput(const engine::RowBags& inputs, Extent extent, float* of_encoded,
                 RowSink& sink) const {
    std::vector<float> of_bias(hidden_);
    ParallelRows(threads(), hidden_, [&](RowRange rows) {
      engine::ActivationGradient(engine::Activation::kTanh, {}, encoded_.data(), of_encoded,
                                 stride_, extent.width, rows);
      engine::BiasGradient(of_encoded, stride_, extent.width, 1, rows, of_bias.data());
    });
    std::vector<float> of_examples(extent.size * hidden_);
    engine::Transpose(of_encoded, hidden_, stride_, extent.size, of_examples.data());
    EmitUses(sink, kVaeInput, tensor(kVaeInput), inputs.ByRow(), of_examples.data());
    EmitRows(sink, kVaeInput + 1, tensor(kVaeInput + 1), {0, hidden_}, of_bias.data(), threads());
  }

  v1::MultVaeModel spec_;
  int64_t hidden_;
  int64_t latent_;
  std::vector<int32_t> active_users_;
  EpochOrder order_;
  Layers inner_;  // what ranking needs as a whole
  Layers outer_;  // items: deltas as large as their scores
  int64_t stride_;
  AlignedBuffer encoded_;
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
  ESPALIER_RETURN_IF_ERROR(model->status());
  return model;
}

}  // namespace espalier::worker::recommender
