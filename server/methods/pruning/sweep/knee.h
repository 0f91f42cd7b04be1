// Where performance breaks as sparsity rises.
//
// Rule:        the largest sparsity whose performance is at least (1 − tolerance) of the dense
//              model's and after which the loss per unit of sparsity at least doubles: the slope to
//              the next point against the slope from the dense model. The knee is a property of the
//              points that were measured.
// Source:      Jaiswal et al. 2023 (essential sparsity) describe the knee; the rule is ours.
#pragma once

#include <optional>
#include <span>

namespace espalier::server::methods {

struct SweepPoint {
  double sparsity = 0;
  double performance = 0;  // higher is better, > 0
};

// `points` begins with the dense model and ascends in sparsity.
std::optional<double> FindKnee(std::span<const SweepPoint> points, double tolerance);

}  // namespace espalier::server::methods
