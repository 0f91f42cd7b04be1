#include "worker/recommender/scoring/multvae_scorer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "worker/engine/activation.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/parallel.h"
#include "worker/recommender/scoring/snapshot.h"

namespace espalier::worker::recommender {
namespace {

using engine::AlignedBuffer;

// Users whose histories are encoded together.
constexpr int64_t kUsers = 128;

class VaeScorer final : public Scorer {
 public:
  VaeScorer(v1::MultVaeModel spec, std::shared_ptr<const Snapshot> snapshot,
            const Interactions& history)
      : spec_(std::move(spec)),
        snapshot_(std::move(snapshot)),
        history_(history),
        layers_(*snapshot_->topology, kVaeLatent, kUsers, 1),
        backend_(engine::MakeOneDnnBackend(1)),
        encoded_(spec_.hidden() * layers_.stride()) {
    AddVaeLayers(spec_, layers_);
  }

  std::unique_ptr<Scorer> Clone() const override {
    return std::make_unique<VaeScorer>(spec_, snapshot_, history_);
  }

  void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
             float* scores) override {
    for (size_t first = 0; first < users.size(); first += kUsers) {
      const auto some = users.subspan(first, std::min<size_t>(kUsers, users.size() - first));
      ScoreTile(some, first_item, num_items, scores + static_cast<int64_t>(first) * num_items);
    }
  }

  void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) override {
    Encode(std::span(&user, 1));
    std::vector<float> hidden(spec_.hidden());
    engine::Transpose(hidden_, spec_.hidden(), layers_.stride(), 1, hidden.data());
    for (size_t j = 0; j < items.size(); ++j) {
      scores[j] = Items().Product(items[j], hidden.data()) + Bias(items[j]);
    }
  }

 private:
  const RowTensor& Items() const { return snapshot_->tensors[kVaeItems]; }
  float Bias(int64_t item) const { return snapshot_->tensors[kVaeItems + 1].values()[item]; }

  // hidden_ = the last hidden layer of each user; z is the mean.
  void Encode(std::span<const int32_t> users) {
    if (std::ranges::equal(users, users_)) return;
    users_.assign(users.begin(), users.end());
    engine::RowBags inputs;
    for (const int32_t user : users) {
      const auto items = history_.Of(user);
      inputs.Add(items, static_cast<float>(1 / std::sqrt(static_cast<double>(items.size()))));
    }
    const engine::Pass pass = Layers::PassOf(
        snapshot_->tensors, {inputs.size(), engine::WholeLanes(inputs.size())}, nullptr);
    EncodeVae(snapshot_->tensors, inputs, pass.extent, layers_.stride(), encoded_.data(), 1);
    const float* latent = layers_.Forward(kVaeToLatent, pass, encoded_.data());
    hidden_ = layers_.Forward(kVaeToHidden, pass, latent);
  }

  void ScoreTile(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
                 float* scores) {
    Encode(users);
    const int64_t stride = layers_.stride();
    const int64_t width = engine::WholeLanes(static_cast<int64_t>(users.size()));
    if (tile_.size() < num_items * stride) tile_ = AlignedBuffer(num_items * stride);
    engine::MultiplyRows(*backend_, Items(), {first_item, first_item + num_items}, hidden_, stride,
                         width, tile_.data());
    engine::Transpose(tile_.data(), num_items, stride, static_cast<int64_t>(users.size()), scores);
    for (size_t u = 0; u < users.size(); ++u, scores += num_items) {
      for (int64_t j = 0; j < num_items; ++j) scores[j] += Bias(first_item + j);
    }
  }

  v1::MultVaeModel spec_;
  std::shared_ptr<const Snapshot> snapshot_;
  const Interactions& history_;
  Layers layers_;
  std::unique_ptr<engine::Backend> backend_;
  AlignedBuffer encoded_;
  std::vector<int32_t> users_;
  const float* hidden_ = nullptr;  // of users_, [hidden][stride of layers_]
  AlignedBuffer tile_;
};

}  // namespace

void AddVaeLayers(const v1::MultVaeModel& spec, Layers& layers) {
  layers.Add({{.units = int64_t{2} * spec.latent(), .activation = engine::Activation::kLinear}},
             spec.hidden());
  layers.Add({{.units = spec.hidden(), .activation = engine::Activation::kTanh}}, spec.latent());
}

void EncodeVae(std::span<const RowTensor> tensors, const engine::RowBags& inputs,
               engine::Extent extent, int64_t stride, float* out, int threads) {
  const RowTensor& table = tensors[kVaeInput];
  inputs.Forward(table, 0, extent, stride, out, threads);
  engine::ParallelRows(threads, table.cols(), [&](engine::RowRange rows) {
    engine::BiasActivate(engine::Activation::kTanh, tensors[kVaeInput + 1].values(), out, stride,
                         extent.width, rows);
  });
}

std::unique_ptr<Scorer> MakeVaeScorer(const v1::MultVaeModel& spec,
                                      std::shared_ptr<const tensor::ModelTopology> topology,
                                      std::span<const float> values, const Interactions& history) {
  return std::make_unique<VaeScorer>(
      spec, std::make_shared<const Snapshot>(std::move(topology), values), history);
}

}  // namespace espalier::worker::recommender
