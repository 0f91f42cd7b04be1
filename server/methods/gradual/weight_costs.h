// What a weight costs of a round's time, layer by layer.
//
// Units:       any, the same for both parameters (seconds, say).
// Determinism: pure function.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/model.pb.h"

namespace espalier::server::methods {

// For each tensor of the layout per_weight + per_operation · (output positions of its layer): a
// weight of a convolution is used once at every position, one of a linear layer once. Tensors that
// are no weights have 0. Errors: those of wire::LayoutOf().
absl::StatusOr<std::vector<double>> WeightCosts(const v1::ModelSpec& spec, double per_weight,
                                                double per_operation);

// Least squares over rounds: seconds = base + unit · cost, where cost is that of a round's active
// weights. Sums are kept about their means, in the order of rounds.
struct CostFit {
  int64_t rounds = 0;
  double mean_cost = 0;
  double mean_seconds = 0;
  double squares = 0;   // Σ (cost − mean)²
  double products = 0;  // Σ (cost − mean) · (seconds − mean)

  void Add(double cost, double seconds);
  // base / unit: what a round takes apart from its weights, as a cost. Not below 0. Absent until
  // two rounds differ in cost, and while rounds of more weights take no longer.
  std::optional<double> BaseCost() const;
};

}  // namespace espalier::server::methods
