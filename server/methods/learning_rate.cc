#include "server/methods/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace espalier::server::methods {
namespace {

double StepFactor(const v1::LearningRateSchedule& schedule, int round) {
  double product = 1;
  for (const int milestone : schedule.milestones()) {
    if (round >= milestone) product *= schedule.factor();
  }
  return product;
}

}  // namespace

double LearningRateFactor(const v1::LearningRateSchedule& schedule, int round, int rounds) {
  const double done = static_cast<double>(round - 1) / std::max(rounds, 1);
  const double end = schedule.final_factor();
  double factor = 1;
  switch (schedule.kind()) {
    case v1::LearningRateSchedule::KIND_STEP:
      factor = StepFactor(schedule, round);
      break;
    case v1::LearningRateSchedule::KIND_COSINE:
      factor = end + (1 - end) * (1 + std::cos(std::numbers::pi * done)) / 2;
      break;
    case v1::LearningRateSchedule::KIND_LINEAR:
      factor = 1 + (end - 1) * done;
      break;
    default:
      break;
  }
  const int warmup = schedule.warmup_rounds();
  if (round <= warmup) factor *= static_cast<double>(round) / (warmup + 1);
  return factor;
}

}  // namespace espalier::server::methods
