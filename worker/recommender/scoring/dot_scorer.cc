#include "worker/recommender/scoring/dot_scorer.h"

#include <algorithm>
#include <utility>

#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/rows/row_arithmetic.h"

namespace espalier::worker::recommender {
namespace {

class DotScorer final : public Scorer {
 public:
  explicit DotScorer(std::shared_ptr<const DotEmbeddings> embeddings)
      : embeddings_(std::move(embeddings)), backend_(engine::MakeOneDnnBackend(1)) {}

  float scale() const override { return embeddings_->scale; }

  std::unique_ptr<Scorer> Clone() const override {
    return std::make_unique<DotScorer>(embeddings_);
  }

  void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
             float* scores) override {
    const int64_t stride = embeddings_->stride;
    const auto count = static_cast<int64_t>(users.size());
    if (rows_.size() < count * stride) rows_ = engine::AlignedBuffer(count * stride);
    for (int64_t u = 0; u < count; ++u) {
      std::copy_n(embeddings_->users.data() + users[u] * stride, stride, rows_.data() + u * stride);
    }
    backend_->Gemm({.transpose_b = true,
                    .m = count,
                    .n = num_items,
                    .k = stride,
                    .lda = stride,
                    .ldb = stride,
                    .ldc = num_items},
                   rows_.data(), embeddings_->items.data() + first_item * stride, scores);
  }

  void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) override {
    const int64_t stride = embeddings_->stride;
    const float* of_user = embeddings_->users.data() + user * stride;
    for (size_t j = 0; j < items.size(); ++j) {
      scores[j] = engine::Dot(of_user, embeddings_->items.data() + items[j] * stride, stride);
    }
  }

 private:
  std::shared_ptr<const DotEmbeddings> embeddings_;
  std::unique_ptr<engine::Backend> backend_;
  engine::AlignedBuffer rows_;  // of the users
};

}  // namespace

std::unique_ptr<Scorer> MakeDotScorer(std::shared_ptr<const DotEmbeddings> embeddings) {
  return std::make_unique<DotScorer>(std::move(embeddings));
}

}  // namespace espalier::worker::recommender
