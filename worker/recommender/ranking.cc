#include "worker/recommender/ranking.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>

#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::recommender {
namespace {

constexpr int64_t kTileUsers = 128;
constexpr int64_t kTileItems = 2048;
constexpr int64_t kScanBlock = 64;

ESPALIER_MULTIVERSION
bool AnyAbove(const float* scores, int64_t count, float bound) {
  int any = 0;
  for (int64_t j = 0; j < count; ++j) any |= static_cast<int>(scores[j] > bound);
  return any != 0;
}

float Comparable(float score) {
  return std::isnan(score) ? -std::numeric_limits<float>::infinity() : score;
}

// The first `count` items of a stream that is offered in ascending order of items.
class TopOfStream {
 public:
  explicit TopOfStream(int64_t count) : count_(static_cast<size_t>(count)) {
    heap_.reserve(count_);
  }

  // Items [first, first + scores.size()).
  void Offer(int32_t first, std::span<const float> scores) {
    const auto size = static_cast<int64_t>(scores.size());
    for (int64_t block = 0; block < size; block += kScanBlock) {
      const int64_t end = std::min(block + kScanBlock, size);
      // Later items lose ties, so that only a higher score gets into a full heap.
      if (heap_.size() == count_ &&
          !AnyAbove(scores.data() + block, end - block, heap_.front().score)) {
        continue;
      }
      for (int64_t j = block; j < end; ++j) {
        Offer({first + static_cast<int32_t>(j), Comparable(scores[j])});
      }
    }
  }

  void Offer(RankedItem item) {
    if (heap_.size() < count_) {
      heap_.push_back(item);
      std::ranges::push_heap(heap_, Before);
    } else if (!heap_.empty() && Before(item, heap_.front())) {
      std::ranges::pop_heap(heap_, Before);
      heap_.back() = item;
      std::ranges::push_heap(heap_, Before);
    }
  }

  // Best first. Leaves this object empty.
  std::vector<RankedItem> Take() {
    std::ranges::sort(heap_, Before);
    std::vector<RankedItem> result(heap_.begin(), heap_.end());
    heap_.clear();
    return result;
  }

 private:
  static bool Before(const RankedItem& a, const RankedItem& b) {
    return a.score != b.score ? a.score > b.score : a.item < b.item;
  }

  size_t count_;
  std::vector<RankedItem> heap_;  // the last of the kept items in front
};

// Offers the scores of items [first, first + scores.size()) that are not in `masked` (ascending).
void OfferUnmasked(int32_t first, std::span<const float> scores, std::span<const int32_t> masked,
                   TopOfStream& top) {
  const auto end = first + static_cast<int32_t>(scores.size());
  int32_t begin = first;
  for (auto next = std::ranges::lower_bound(masked, first); next != masked.end() && *next < end;
       ++next) {
    top.Offer(begin, scores.subspan(begin - first, *next - begin));
    begin = *next + 1;
  }
  top.Offer(begin, scores.subspan(begin - first));
}

double Gain(size_t rank) { return 1 / std::log2(static_cast<double>(rank) + 2); }

// Adds one user's metrics; `ranked` has at least the first max(cutoffs) items there are.
void AddUser(std::span<const RankedItem> ranked, std::span<const int32_t> held_out,
             RankingSums& sums) {
  ++sums.users;
  for (RankingSums::AtCutoff& at : sums.at) {
    const auto cutoff = static_cast<size_t>(at.cutoff);
    int64_t hits = 0;
    double gain = 0;
    for (size_t rank = 0; rank < std::min(cutoff, ranked.size()); ++rank) {
      if (!std::ranges::binary_search(held_out, ranked[rank].item)) continue;
      ++hits;
      gain += Gain(rank);
    }
    const size_t best = std::min(cutoff, held_out.size());
    double ideal = 0;
    for (size_t rank = 0; rank < best; ++rank) ideal += Gain(rank);
    const auto found = static_cast<double>(hits);
    at.recall += found / static_cast<double>(held_out.size());
    at.truncated_recall += found / static_cast<double>(best);
    at.ndcg += gain / ideal;
    at.precision += found / static_cast<double>(cutoff);
    at.hit_rate += hits > 0 ? 1 : 0;
  }
}

RankingSums Zero(std::span<const int64_t> cutoffs) {
  RankingSums sums;
  for (const int64_t cutoff : cutoffs) sums.at.push_back({.cutoff = cutoff});
  return sums;
}

std::vector<int32_t> UsersWith(const Interactions& held_out) {
  std::vector<int32_t> users;
  for (int64_t user = 0; user < held_out.users(); ++user) {
    if (held_out.CountOf(user) > 0) users.push_back(static_cast<int32_t>(user));
  }
  return users;
}

// Calls rank(scorer, users, sums of these users) for tiles of users, and adds the sums in the order
// of users.
template <typename Rank>
RankingSums RankTiles(const Scorer& scorer, const Interactions& held_out,
                      std::span<const int64_t> cutoffs, int threads, const Rank& rank) {
  const std::vector<int32_t> users = UsersWith(held_out);
  const auto count = static_cast<int64_t>(users.size());
  const int64_t tiles = (count + kTileUsers - 1) / kTileUsers;
  std::vector<RankingSums> sums(tiles);
  std::atomic<int64_t> next = 0;
  engine::ParallelParts(threads, [&](int) {
    const std::unique_ptr<Scorer> own = scorer.Clone();
    for (int64_t tile = next++; tile < tiles; tile = next++) {
      const int64_t first = tile * kTileUsers;
      sums[tile] = Zero(cutoffs);
      rank(*own, std::span(users).subspan(first, std::min(kTileUsers, count - first)), sums[tile]);
    }
  });
  RankingSums total = Zero(cutoffs);
  for (const RankingSums& part : sums) Add(part, total);
  return total;
}

}  // namespace

void Add(const RankingSums& other, RankingSums& sums) {
  sums.users += other.users;
  for (size_t i = 0; i < sums.at.size(); ++i) {
    sums.at[i].recall += other.at[i].recall;
    sums.at[i].truncated_recall += other.at[i].truncated_recall;
    sums.at[i].ndcg += other.at[i].ndcg;
    sums.at[i].precision += other.at[i].precision;
    sums.at[i].hit_rate += other.at[i].hit_rate;
  }
}

RankingSums RankAllItems(const Scorer& scorer, const Interactions& masked,
                         const Interactions& held_out, std::span<const int64_t> cutoffs,
                         int threads) {
  const int64_t items = held_out.items();
  const int64_t deepest = cutoffs.empty() ? 0 : std::ranges::max(cutoffs);
  return RankTiles(scorer, held_out, cutoffs, threads,
                   [&](Scorer& own, std::span<const int32_t> users, RankingSums& sums) {
                     std::vector<float> scores(users.size() * std::min(kTileItems, items));
                     std::vector<TopOfStream> top(users.size(), TopOfStream(deepest));
                     for (int64_t first = 0; first < items; first += kTileItems) {
                       const int64_t count = std::min(kTileItems, items - first);
                       own.Score(users, first, count, scores.data());
                       for (size_t u = 0; u < users.size(); ++u) {
                         OfferUnmasked(static_cast<int32_t>(first),
                                       std::span(scores).subspan(u * count, count),
                                       masked.Of(users[u]), top[u]);
                       }
                     }
                     for (size_t u = 0; u < users.size(); ++u) {
                       AddUser(top[u].Take(), held_out.Of(users[u]), sums);
                     }
                   });
}

RankingSums RankCandidates(const Scorer& scorer, const Interactions& candidates,
                           const Interactions& held_out, std::span<const int64_t> cutoffs,
                           int threads) {
  const int64_t deepest = cutoffs.empty() ? 0 : std::ranges::max(cutoffs);
  return RankTiles(scorer, held_out, cutoffs, threads,
                   [&](Scorer& own, std::span<const int32_t> users, RankingSums& sums) {
                     std::vector<int32_t> items;
                     std::vector<float> scores;
                     for (const int32_t user : users) {
                       items.clear();
                       std::ranges::merge(candidates.Of(user), held_out.Of(user),
                                          std::back_inserter(items));
                       scores.resize(items.size());
                       own.ScoreItems(user, items, scores.data());
                       TopOfStream top(deepest);
                       for (size_t j = 0; j < items.size(); ++j) {
                         top.Offer({items[j], Comparable(scores[j])});
                       }
                       AddUser(top.Take(), held_out.Of(user), sums);
                     }
                   });
}

std::vector<RankedItem> TopItems(Scorer& scorer, int32_t user, int64_t num_items,
                                 std::span<const int32_t> masked, int64_t count) {
  TopOfStream top(std::min(count, num_items));
  std::vector<float> scores(std::min(kTileItems, num_items));
  for (int64_t first = 0; first < num_items; first += kTileItems) {
    const int64_t size = std::min(kTileItems, num_items - first);
    scorer.Score(std::span(&user, 1), first, size, scores.data());
    OfferUnmasked(static_cast<int32_t>(first), std::span(scores).first(size), masked, top);
  }
  return top.Take();
}

}  // namespace espalier::worker::recommender
