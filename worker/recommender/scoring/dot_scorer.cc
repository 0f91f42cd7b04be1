#include "worker/recommender/scoring/dot_scorer.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "worker/engine/kernels/kernels.h"

namespace espalier::worker::recommender {
namespace {

using engine::AlignedBuffer;
using engine::kLanes;

class DotScorer final : public Scorer {
 public:
  explicit DotScorer(std::shared_ptr<const DotEmbeddings> embeddings)
      : embeddings_(std::move(embeddings)), kernels_(engine::Kernels(engine::DetectIsa())) {}

  float scale() const override { return embeddings_->scale; }

  std::unique_ptr<Scorer> Clone() const override {
    return std::make_unique<DotScorer>(embeddings_);
  }

  void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
             float* scores) override {
    Pack(first_item, num_items);
    Gather(users);
    // The kernel writes rows at the distance of the tile's.
    const bool direct = tile_stride_ == num_items;
    if (!direct && result_.size() < static_cast<int64_t>(users.size()) * tile_stride_) {
      result_ = AlignedBuffer(static_cast<int64_t>(users.size()) * tile_stride_);
    }
    float* out = direct ? scores : result_.data();
    const int64_t blocks = tile_stride_ / kLanes;
    const engine::CsrPanel panel = {begin_.data(), begin_.data() + 1, columns_.data()};
    for (int64_t first = 0; first < blocks; first += kernels_.max_blocks) {
      const int64_t count = std::min(kernels_.max_blocks, blocks - first);
      kernels_.spmm(panel, rows_.data(), tile_.data(), tile_stride_, {first, count}, false, out,
                    {0, static_cast<int64_t>(users.size())});
    }
    for (size_t u = 0; !direct && u < users.size(); ++u) {
      std::copy_n(out + u * tile_stride_, num_items, scores + u * num_items);
    }
  }

  void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) override {
    const int64_t stride = embeddings_->stride;
    const float* of_user = embeddings_->users.data() + user * stride;
    for (size_t j = 0; j < items.size(); ++j) {
      const float* of_item = embeddings_->items.data() + items[j] * stride;
      float sum = 0;
      for (int64_t d = 0; d < stride; ++d) sum += of_user[d] * of_item[d];
      scores[j] = sum;
    }
  }

 private:
  // The embeddings of a range of items, dimensions first.
  void Pack(int64_t first_item, int64_t num_items) {
    if (first_item == first_item_ && num_items == num_items_) return;
    first_item_ = first_item;
    num_items_ = num_items;
    const int64_t stride = embeddings_->stride;
    tile_stride_ = (num_items + kLanes - 1) / kLanes * kLanes;
    if (tile_.size() < stride * tile_stride_) tile_ = AlignedBuffer(stride * tile_stride_);
    const float* items = embeddings_->items.data() + first_item * stride;
    for (int64_t block = 0; block < num_items; block += kLanes) {
      const int64_t end = std::min(block + kLanes, num_items);
      for (int64_t d = 0; d < stride; ++d) {
        for (int64_t j = block; j < end; ++j)
          tile_.data()[d * tile_stride_ + j] = items[j * stride + d];
      }
    }
  }

  // The users' embeddings as a matrix of full rows in the kernel's form.
  void Gather(std::span<const int32_t> users) {
    const int64_t stride = embeddings_->stride;
    while (begin_.size() <= users.size()) {
      begin_.push_back(static_cast<int32_t>((begin_.size()) * stride));
      for (int64_t d = 0; d < stride; ++d) columns_.push_back(static_cast<int32_t>(d));
    }
    rows_.resize(users.size() * stride);
    for (size_t u = 0; u < users.size(); ++u) {
      std::copy_n(embeddings_->users.data() + users[u] * stride, stride, rows_.data() + u * stride);
    }
  }

  std::shared_ptr<const DotEmbeddings> embeddings_;
  const engine::KernelTable& kernels_;
  int64_t first_item_ = -1;
  int64_t num_items_ = 0;
  int64_t tile_stride_ = 0;
  AlignedBuffer tile_;
  AlignedBuffer result_;
  std::vector<int32_t> begin_;
  std::vector<int32_t> columns_;
  std::vector<float> rows_;
};

}  // namespace

std::unique_ptr<Scorer> MakeDotScorer(std::shared_ptr<const DotEmbeddings> embeddings) {
  return std::make_unique<DotScorer>(std::move(embeddings));
}

}  // namespace espalier::worker::recommender
