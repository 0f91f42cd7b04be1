// Ranking with MultVAE: encodes users' histories, decodes items tile by tile.
//
// Threading: a scorer belongs to one thread; clones share the values.
#pragma once

#include <memory>
#include <span>

#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// Matrices in the order of the layout; each is followed by its bias.
inline constexpr size_t kVaeInput = 0;
inline constexpr size_t kVaeLatent = 2;
inline constexpr size_t kVaeHidden = 4;
inline constexpr size_t kVaeItems = 6;

// out = Σ inputs[k] · row items[k] of `table` + bias, over all columns of the table.
void SumOfItems(const RowTensor& table, const RowTensor& bias, std::span<const int32_t> items,
                std::span<const float> inputs, float* out);

// Copies `values`; borrows `history`.
std::unique_ptr<Scorer> MakeVaeScorer(const v1::MultVaeModel& spec,
                                      std::shared_ptr<const tensor::ModelTopology> topology,
                                      std::span<const float> values, const Interactions& history);

}  // namespace espalier::worker::recommender
