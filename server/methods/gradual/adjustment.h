// PruneFL's choice of weights: those by which the loss falls fastest per unit of a round's time.
//
// A weight of importance z (its expected share in the decrease of the loss) in a layer where a
// weight costs t is worth having while z/t is above gain/cost of all that is kept.
//
// Order:       larger z/t first; among equals the earlier layer, within it the lower position.
// Memory:      8 bytes per candidate, and every inactive position is one: coordinator only.
// Threading:   pure functions. Determinism: exact, sums in a fixed order.
// Source:      Jiang et al., TNNLS 2022, algorithm 2.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "server/methods/evolution.h"

namespace espalier::server::methods {

struct CandidateLayer {
  double cost = 1;             // of one weight, > 0
  std::vector<uint64_t> keys;  // sparsity::LargestFirst(importance, position), in any order
};

struct GreedyChoice {
  std::vector<std::vector<int64_t>> positions;  // ascending, for each layer
  double gain = 0;                              // importance of all that is kept or chosen
  double cost = 0;                              // and its cost
};

// Chooses among `layers` beside what is kept, at most `room` weights.
GreedyChoice ChooseGreedily(std::vector<CandidateLayer> layers, double kept_gain, double kept_cost,
                            int64_t room);

struct AdjustmentOptions {
  double drop_fraction = 0.3;        // of each layer's weights, smallest magnitudes: candidates
  double base_cost = 0;              // of a round, whatever the weights
  std::vector<double> weight_costs;  // one entry per tensor
  int64_t max_active = 0;            // no weight is added beyond so many over all layers
};

// The change of structure for a model whose positions have these importances: one entry for every
// position of every tensor, in layout order; those of tensors that are not sparsifiable count in
// the gain. Dropped candidates that are chosen again stay as they are.
// Errors: InvalidArgument SHAPE_MISMATCH.
absl::StatusOr<Evolution> PlanAdjustment(const tensor::ModelState& model,
                                         std::span<const float> importance,
                                         const AdjustmentOptions& options);

}  // namespace espalier::server::methods
