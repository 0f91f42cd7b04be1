// The counts that an evaluation may be asked for (EvaluateTask.counts): how many there are, and
// what each counts.
//
// Threading: pure functions. Determinism: exact.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string_view>

#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

// Of COUNTS_SCORES: bins of log odds, of examples without the label and of those with it.
inline constexpr int64_t kScoreBins = 4096;
// Log odds that have a bin of their own: −16 to 16.
inline constexpr double kMostLogOdds = 16;

// The bin of ln(p / (1 − p)), which may be infinite. p ≥ ½ is in the upper half.
inline int64_t ScoreBin(double log_odds) {
  // A model that diverged may have no odds.
  if (std::isnan(log_odds)) return 0;
  const double within = std::clamp(log_odds, -kMostLogOdds, kMostLogOdds) + kMostLogOdds;
  return std::min(kScoreBins - 1, static_cast<int64_t>(within * kScoreBins / (2 * kMostLogOdds)));
}

// Labels whose scores are counted: all of them, or of two classes the second one.
inline int64_t ScoredLabels(bool classes, int64_t outputs) { return classes ? 1 : outputs; }

// Numbers in the section COUNTS of an evaluation of a network with so many outputs.
inline int64_t EvaluationCounts(const v1::EvaluateTask& task, bool classes, int64_t outputs) {
  int64_t counts = 0;
  for (const int kind : task.counts()) {
    if (kind == v1::EvaluateTask::COUNTS_CONFUSION) counts += outputs * outputs;
    if (kind == v1::EvaluateTask::COUNTS_SCORES) {
      counts += ScoredLabels(classes, outputs) * 2 * kScoreBins;
    }
  }
  return counts;
}

// Whether what is learned of an example is its class.
inline bool LearnsClass(const v1::DataSpec& data) {
  return data.target() == v1::DataSpec::TARGET_UNSPECIFIED ||
         data.target() == v1::DataSpec::TARGET_CLASS;
}

// Whether a sum by this name (PartialHeader.metric_sums) may be any number; others are shares of
// the examples.
inline bool IsUnboundedSum(std::string_view name) {
  constexpr std::array<std::string_view, 4> kNames = {"squared_error", "absolute_error", "target",
                                                      "squared_target"};
  const std::string_view base = name.substr(0, name.find('/'));
  return std::find(kNames.begin(), kNames.end(), base) != kNames.end();
}

}  // namespace espalier::wire
