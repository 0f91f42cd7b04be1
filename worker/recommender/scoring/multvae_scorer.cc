#include "worker/recommender/scoring/multvae_scorer.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/kernels.h"
#include "worker/recommender/scoring/snapshot.h"

namespace espalier::worker::recommender {
namespace {

using engine::AlignedBuffer;
using engine::kLanes;

double RowProduct(const RowTensor& weight, int64_t row, const std::vector<float>& x) {
  const std::span<const float> stored = weight.Row(row);
  double sum = 0;
  if (!weight.is_sparse()) {
    for (size_t k = 0; k < stored.size(); ++k) sum += static_cast<double>(stored[k]) * x[k];
    return sum;
  }
  const std::span<const int32_t> columns = weight.ColumnsOf(row);
  for (size_t k = 0; k < stored.size(); ++k) sum += static_cast<double>(stored[k]) * x[columns[k]];
  return sum;
}

class VaeScorer final : public Scorer {
 public:
  VaeScorer(std::shared_ptr<const Snapshot> snapshot, int64_t latent, const Interactions& history)
      : snapshot_(std::move(snapshot)),
        latent_(latent),
        history_(history),
        kernels_(engine::Kernels(engine::DetectIsa())) {}

  std::unique_ptr<Scorer> Clone() const override {
    return std::make_unique<VaeScorer>(snapshot_, latent_, history_);
  }

  void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
             float* scores) override {
    Encode(users);
    const RowTensor& weight = Tensor(kVaeItems);
    const float* bias = Tensor(kVaeItems + 1).values();
    row_.resize(stride_);
    for (int64_t j = 0; j < num_items; ++j) {
      DecodeItem(weight, first_item + j);
      for (size_t u = 0; u < users.size(); ++u) {
        scores[u * num_items + j] = row_[u] + bias[first_item + j];
      }
    }
  }

  void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) override {
    Encode(std::span(&user, 1));
    const float* bias = Tensor(kVaeItems + 1).values();
    row_.resize(stride_);
    for (size_t j = 0; j < items.size(); ++j) {
      DecodeItem(Tensor(kVaeItems), items[j]);
      scores[j] = row_[0] + bias[items[j]];
    }
  }

 private:
  const RowTensor& Tensor(size_t index) const { return snapshot_->tensors[index]; }

  // The last hidden layer of each user, [hidden][stride].
  void Encode(std::span<const int32_t> users) {
    if (std::ranges::equal(users, users_)) return;
    users_.assign(users.begin(), users.end());
    const int64_t hidden = Tensor(kVaeInput).cols();
    const auto size = static_cast<int64_t>(users.size());
    stride_ = (size + kLanes - 1) / kLanes * kLanes;
    hidden_ = AlignedBuffer(hidden * stride_);
    std::vector<float> encoded(hidden);
    std::vector<float> latent(latent_);
    for (int64_t u = 0; u < size; ++u) {
      const auto items = history_.Of(users[u]);
      const auto count = static_cast<double>(std::max<size_t>(items.size(), 1));
      const std::vector<float> inputs(items.size(), static_cast<float>(1 / std::sqrt(count)));
      SumOfItems(Tensor(kVaeInput), Tensor(kVaeInput + 1), items, inputs, encoded.data());
      for (float& h : encoded) h = std::tanh(h);
      for (int64_t l = 0; l < latent_; ++l) latent[l] = Affine(kVaeLatent, l, encoded);
      for (int64_t h = 0; h < hidden; ++h) {
        hidden_.data()[h * stride_ + u] = std::tanh(Affine(kVaeHidden, h, latent));
      }
    }
  }

  float Affine(size_t weight, int64_t row, const std::vector<float>& x) const {
    return static_cast<float>(RowProduct(Tensor(weight), row, x) +
                              Tensor(weight + 1).values()[row]);
  }

  // row_ = the product of one item's row with the hidden layers of all users.
  void DecodeItem(const RowTensor& weight, int64_t item) {
    const auto stored = static_cast<int32_t>(weight.Row(item).size());
    while (all_columns_.size() < static_cast<size_t>(weight.cols())) {
      all_columns_.push_back(static_cast<int32_t>(all_columns_.size()));
    }
    const int32_t begin = 0;
    const int32_t* columns =
        weight.is_sparse() ? weight.ColumnsOf(item).data() : all_columns_.data();
    const int64_t blocks = stride_ / kLanes;
    for (int64_t first = 0; first < blocks; first += kernels_.max_blocks) {
      const int64_t count = std::min(kernels_.max_blocks, blocks - first);
      kernels_.spmm({&begin, &stored, columns}, weight.Row(item).data(), hidden_.data(), stride_,
                    {first, count}, false, row_.data(), {0, 1});
    }
  }

  std::shared_ptr<const Snapshot> snapshot_;
  int64_t latent_;
  const Interactions& history_;
  const engine::KernelTable& kernels_;
  std::vector<int32_t> users_;
  int64_t stride_ = 0;
  AlignedBuffer hidden_;
  std::vector<float> row_;
  std::vector<int32_t> all_columns_;
};

}  // namespace

void SumOfItems(const RowTensor& table, const RowTensor& bias, std::span<const int32_t> items,
                std::span<const float> inputs, float* out) {
  std::copy_n(bias.values(), table.cols(), out);
  for (size_t k = 0; k < items.size(); ++k) {
    if (inputs[k] == 0.0F) continue;
    const std::span<const float> row = table.Row(items[k]);
    if (!table.is_sparse()) {
      for (size_t c = 0; c < row.size(); ++c) out[c] += inputs[k] * row[c];
      continue;
    }
    const std::span<const int32_t> columns = table.ColumnsOf(items[k]);
    for (size_t c = 0; c < row.size(); ++c) out[columns[c]] += inputs[k] * row[c];
  }
}

std::unique_ptr<Scorer> MakeVaeScorer(const v1::MultVaeModel& spec,
                                      std::shared_ptr<const tensor::ModelTopology> topology,
                                      std::span<const float> values, const Interactions& history) {
  return std::make_unique<VaeScorer>(std::make_shared<const Snapshot>(std::move(topology), values),
                                     spec.latent(), history);
}

}  // namespace espalier::worker::recommender
