// Ranking with MultVAE: encodes users' histories, decodes items tile by tile.
//
// Threading: a scorer belongs to one thread; clones share the values.
#pragma once

#include <memory>
#include <span>

#include "worker/engine/rows/row_bags.h"
#include "worker/recommender/layers.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// Matrices in the order of the layout; each is followed by its bias.
inline constexpr size_t kVaeInput = 0;
inline constexpr size_t kVaeLatent = 2;
inline constexpr size_t kVaeHidden = 4;
inline constexpr size_t kVaeItems = 6;

// Chains of AddVaeLayers(): encoded histories to μ and log σ², and latent variables to the last
// hidden layer.
inline constexpr size_t kVaeToLatent = 0;
inline constexpr size_t kVaeToHidden = 1;
void AddVaeLayers(const v1::MultVaeModel& spec, Layers& layers);

// out [hidden][stride] = tanh(Σ over a user's items of input · row of the item + bias).
void EncodeVae(std::span<const RowTensor> tensors, const engine::RowBags& inputs,
               engine::Extent extent, int64_t stride, float* out, int threads);

// Copies `values`; borrows `history`.
std::unique_ptr<Scorer> MakeVaeScorer(const v1::MultVaeModel& spec,
                                      std::shared_ptr<const tensor::ModelTopology> topology,
                                      std::span<const float> values, const Interactions& history);

}  // namespace espalier::worker::recommender
