// Drop the smallest weights, grow where the merged gradient is largest: what RigL and FedTiny
// share.
//
// `counts` has one entry per tensor: how many of its weights are replaced after the round in work.
// Determinism: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "server/methods/evolution.h"
#include "server/methods/program.h"

namespace espalier::server::methods {

// Positions of a sparse tensor that store nothing; 0 for a dense one.
int64_t InactivePositions(const tensor::ModelTopology& topology, size_t tensor);

// When structures change, and by how much: every `update_every` rounds up to a share of all of them,
// by a fraction that falls from `alpha` along half a cosine (Evci et al., ICML 2020).
struct UpdateSchedule {
  double alpha = 0;
  int64_t update_every = 1;
  double end_fraction = 1;

  // Share of each tensor's weights that is replaced after `round` of `rounds`; 0 in rounds without
  // an update, and after the last one.
  double Fraction(int32_t round, int32_t rounds) const;
};

// ⌊fraction · weights⌋ of each sparse tensor, as far as it has inactive positions; 0 of others.
std::vector<int64_t> ReplacedCounts(const tensor::ModelTopology& topology, double fraction);

// ⌈fraction · count⌉ of the decimal fraction that was meant.
int64_t RoundedUp(double fraction, int64_t count);

// Asks for `slack` growth candidates per weight to be grown, of gradients over `batches`
// minibatches. Nothing when all counts are 0.
void AskForCandidates(const tensor::ModelTopology& topology, std::span<const int64_t> counts,
                      double slack, int64_t batches, v1::TrainTask& task);

// What growing `fraction` of each tensor's weights, of which there are `stored`, has the
// coordinator keep when each participant reports `slack` candidates per weight.
absl::StatusOr<CoordinatorDemand> GrowthDemand(const v1::JobSpec& spec,
                                               const absl::StatusOr<std::vector<int64_t>>& stored,
                                               double fraction, double slack);

// Candidates per weight to be grown in the steps that find the exact ones (exact_growth.h).
inline constexpr double kExactSlack = 2;

// Drops the smallest magnitudes of the trained model and grows the reported positions of largest
// mean gradient. With `marked` (indices of each tensor's weights, ascending; counts[i] of them)
// only those are dropped. With `active_gradients` (one for each stored weight of the model) those
// compete with the reported positions, see sparsity::RigLUpdate().
// Errors: FailedPrecondition (GROWTH_SCORES_MISSING).
absl::StatusOr<Evolution> PlanGradientGrowth(const tensor::ModelState& model,
                                             std::span<const int64_t> counts,
                                             std::span<const reduce::ScoreList> gradients,
                                             std::span<const std::vector<int32_t>> marked = {},
                                             std::span<const float> active_gradients = {});

}  // namespace espalier::server::methods
