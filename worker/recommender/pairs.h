// Batches of pairs of a user and an item, with the loss that NeuMF and AutoInt share.
//
// Threading: pure functions; TouchedRows is a plain value.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/recommender/interactions.h"
#include "worker/recommender/recommender_model.h"
#include "worker/recommender/row_parameters.h"

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

// Mean over positives of softplus(−score) + mean over negatives of softplus(score). Scores become
// their gradients.
double PairLoss(const Pairs& pairs, float* scores);

// The distinct rows of a table that a batch names.
struct TouchedRows {
  explicit TouchedRows(std::span<const int32_t> of_examples);
  // [rows][cols], zeros where nothing is stored.
  std::vector<float> Expand(const RowTensor& table) const;

  std::vector<int32_t> rows;   // ascending
  std::vector<int64_t> index;  // of each example, in rows
};

// Hands the gradients [rows][cols] of touched rows to `sink`.
void EmitRows(GradientSink& sink, size_t index, const RowTensor& table, const TouchedRows& touched,
              std::span<const float> gradients);

}  // namespace espalier::worker::recommender
