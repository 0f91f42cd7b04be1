#include "worker/recommender/scoring/pair_scorer.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

namespace espalier::worker::recommender {
namespace {

class PairScorer final : public Scorer {
 public:
  PairScorer(int64_t max_pairs, std::function<ScorePairs()> make)
      : max_pairs_(static_cast<size_t>(max_pairs)), make_(std::move(make)), pairs_(make_()) {}

  std::unique_ptr<Scorer> Clone() const override {
    return MakePairScorer(static_cast<int64_t>(max_pairs_), make_);
  }

  void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
             float* scores) override {
    std::vector<int32_t> items(num_items);
    std::iota(items.begin(), items.end(), static_cast<int32_t>(first_item));
    for (size_t u = 0; u < users.size(); ++u) ScoreItems(users[u], items, scores + u * num_items);
  }

  void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) override {
    const std::vector<int32_t> users(std::min(items.size(), max_pairs_), user);
    for (size_t first = 0; first < items.size(); first += max_pairs_) {
      const size_t count = std::min(max_pairs_, items.size() - first);
      pairs_(std::span(users).first(count), items.subspan(first, count), scores + first);
    }
  }

 private:
  size_t max_pairs_;
  std::function<ScorePairs()> make_;
  ScorePairs pairs_;
};

}  // namespace

std::unique_ptr<Scorer> MakePairScorer(int64_t max_pairs, std::function<ScorePairs()> make) {
  return std::make_unique<PairScorer>(max_pairs, std::move(make));
}

}  // namespace espalier::worker::recommender
