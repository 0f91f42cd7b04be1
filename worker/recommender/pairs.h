// Batches of pairs of a user and an item, with the loss that NeuMF and AutoInt share.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/recommender/interactions.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// Examples of a batch: `positives` of them first, then the negatives of each, one after the other.
struct Pairs {
  int64_t positives = 0;
  std::vector<int32_t> users;
  std::vector<int32_t> items;
};

// The pairs of the positives in `order` (interactions in row order) and `negatives` items for each.
// Those of positive n come from StreamKey(step.seed, "negative", {step.index, n}). A user with all
// items has negatives that are also positives.
Pairs DrawPairs(const Interactions& train, std::span<const int32_t> order, int32_t negatives,
                const Step& step);

// What the pairs from `first` on, one for each score, add to the mean over positives of
// softplus(−score) + the mean over negatives of softplus(score). Scores become their gradients.
double PairLoss(const Pairs& pairs, size_t first, std::span<float> scores);

}  // namespace espalier::worker::recommender
