#include "server/methods/pruning/sweep/knee.h"

#include <algorithm>

namespace espalier::server::methods {
namespace {

// Performance lost per unit of sparsity.
double Slope(const SweepPoint& from, const SweepPoint& to) {
  return (from.performance - to.performance) / (to.sparsity - from.sparsity);
}

}  // namespace

std::optional<double> FindKnee(std::span<const SweepPoint> points, double tolerance) {
  constexpr double kSteeper = 2;
  std::optional<double> knee;
  for (size_t i = 1; i + 1 < points.size(); ++i) {
    const bool holds = points[i].performance >= (1 - tolerance) * points[0].performance;
    const double before = std::max(0.0, Slope(points[0], points[i]));
    const double after = Slope(points[i], points[i + 1]);
    if (holds && after > 0 && after >= kSteeper * before) knee = points[i].sparsity;
  }
  return knee;
}

}  // namespace espalier::server::methods
