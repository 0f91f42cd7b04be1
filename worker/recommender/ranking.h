// Ranking metrics: how well scores put held-out items first.
//
// Order:       score descending, item id ascending among equals (embeddings of pruned rows are
//              zero, so ties are real). A NaN ranks last.
// Metrics:     for a user with held-out items T, hits among the first k:
//              recall hits/|T| (LightGCN); truncated recall hits/min(k, |T|) (MultVAE); precision
//              hits/k; hit rate 1 if there is a hit; NDCG = Σ over hits of 1/log2(rank + 1), ranks
//              from 1, over the same sum for min(k, |T|) hits at the top.
//              Users without held-out items do not count.
// Memory:      tiles of users × items, about 1 MiB for each thread. Never users × items.
// Determinism: sums run in the order of users, whatever the thread count.
// Errors:      none; sets have the users and items of the scores.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/recommender/interactions.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// Sums over users, so that those of several workers add up. Means are sums / users.
struct RankingSums {
  struct AtCutoff {
    int64_t cutoff = 0;  // k
    double recall = 0;
    double truncated_recall = 0;
    double ndcg = 0;
    double precision = 0;
    double hit_rate = 0;
  };
  int64_t users = 0;  // that have held-out items
  std::vector<AtCutoff> at;
};

// Adds `other`, which has the same cutoffs.
void Add(const RankingSums& other, RankingSums& sums);

// Ranks all items but those in `masked` (the training items) for every user with held-out items.
// Cutoffs ≥ 1.
RankingSums RankAllItems(const Scorer& scorer, const Interactions& masked,
                         const Interactions& held_out, std::span<const int64_t> cutoffs,
                         int threads);

// Ranks each user's held-out items among themselves and the user's `candidates` (leave-one-out
// against 100 fixed negatives: DrawNegatives()). The two sets are disjoint.
RankingSums RankCandidates(const Scorer& scorer, const Interactions& candidates,
                           const Interactions& held_out, std::span<const int64_t> cutoffs,
                           int threads);

struct RankedItem {
  int32_t item = 0;
  float score = 0;
};

// The first `count` items for one user, best first, without those in `masked` (ascending). Fewer
// where fewer are left.
std::vector<RankedItem> TopItems(Scorer& scorer, int32_t user, int64_t num_items,
                                 std::span<const int32_t> masked, int64_t count);

}  // namespace espalier::worker::recommender
