// Initial layer-wise distributions: how many weights each layer gets out of a global budget.
//
// Shapes:      a layer's shape is out × in × kernel dimensions (none for a linear layer).
// Units:       densities are shares of active weights in [0, 1]; counts are weights.
// Budget:      density is over listed and exempt weights together, and exempt ones count as dense:
//              budget = density · (N + exempt) − exempt. With exempt = 0 it is over the listed
//              (sparsifiable) weights only. Papers use both conventions.
// Result:      counts sum to round(budget) exactly, by largest remainder; among equal remainders
//              the earlier layer gets the weight. Uniform with forced-dense layers is the
//              exception: it does not compensate for them elsewhere (RigL's convention).
// Threading:   pure functions.
// Determinism: IEEE arithmetic; `power` other than 1 uses the C library's pow, so counts are
//              computed once on the coordinator and sent.
// Errors:      InvalidArgument: BUDGET_TOO_SMALL when exempt or forced-dense layers exceed the
//              budget, DENSITY_OUT_OF_RANGE, SHAPE_OUT_OF_RANGE.
// Source:      Evci et al., ICML 2020 (the published code's clipping loop); Mocanu et al., Nature
//              Communications 9, 2018.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::sparsity {

struct LayerShape {
  std::vector<int64_t> shape;  // out, in, kernel dimensions; at least `out`
  bool dense = false;          // forced dense, though counted in the budget
};

enum class Distribution {
  kUniform,           // the same density everywhere
  kErdosRenyi,        // score (in + out) / (in · out), kernel ignored
  kErdosRenyiKernel,  // score (in + out + kernel dims) / (in · out · kernel size)
  kBalanced,          // the same count everywhere
};

struct DistributionOptions {
  Distribution distribution = Distribution::kErdosRenyiKernel;
  double density = 1.0;
  double power = 1.0;  // exponent of the Erdős–Rényi scores
  // Factors of the scores, one per layer; empty: none. Not for kUniform.
  std::vector<double> score_factors = {};
  int64_t exempt_weights = 0;  // dense weights outside the list that count in the budget
};

struct Allocation {
  std::vector<int64_t> counts;    // active weights per layer
  std::vector<double> densities;  // before rounding
  double epsilon = 0;             // factor of the scores; for uniform the density itself
  int iterations = 0;             // rounds of the clipping loop
};

absl::StatusOr<Allocation> Allocate(const std::vector<LayerShape>& layers,
                                    const DistributionOptions& options);

// SET: round(ε · (in + out)) weights per layer (times the kernel size), clipped to the layer's
// size. Forced-dense layers are full. There is no global budget. epsilon ≥ 0.
absl::StatusOr<std::vector<int64_t>> SetCounts(const std::vector<LayerShape>& layers,
                                               double epsilon);

}  // namespace espalier::sparsity
