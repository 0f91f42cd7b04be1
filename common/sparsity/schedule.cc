#include "common/sparsity/schedule.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace espalier::sparsity {

double CosineAdjustFraction(double alpha, double t, double t_end) {
  if (t >= t_end) return 0.0;
  return alpha / 2 * (1 + std::cos(std::numbers::pi * t / t_end));
}

double CubicSparsity(double initial, double final, double t, double t_begin, double t_end) {
  if (t >= t_end) return final;
  if (t <= t_begin) return initial;
  const double left = 1 - (t - t_begin) / (t_end - t_begin);
  return final + (initial - final) * left * left * left;
}

double ExponentialDensity(double density, int64_t iteration, int64_t iterations) {
  return std::pow(density, static_cast<double>(iteration + 1) / static_cast<double>(iterations));
}

double CosineWithFloor(double initial, double floor, double t, double t_end) {
  if (t >= t_end) return floor;
  return floor + (initial - floor) * (1 + std::cos(std::numbers::pi * t / t_end)) / 2;
}

int64_t FractionOf(double fraction, int64_t count) {
  // The error of fraction · count is below two units in the last place; four are let pass.
  constexpr double kSlack = 1 + 4 * std::numeric_limits<double>::epsilon();
  const double product = fraction * static_cast<double>(count) * kSlack;
  return static_cast<int64_t>(std::clamp(product, 0.0, static_cast<double>(count)));
}

}  // namespace espalier::sparsity
