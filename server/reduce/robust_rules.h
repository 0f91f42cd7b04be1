// The arithmetic of robust aggregation, on whole updates side by side.
//
// Shapes:      updates[k][i] is value i of participant k; all as long as each other, at least one.
//              Callers order the participants by name.
// Determinism: pure functions of their arguments; sums run in float64 in an order that does not
//              depend on threads or processor.
// Sources:     Yin et al. 2018 (median, trimmed mean), Blanchard et al. 2017 (Krum).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "common/wire/model_spec/result_sections.h"

namespace espalier::server::reduce {

using Updates = std::span<const std::span<const float>>;

// Of each value its median; of an even number the mean of the two in the middle.
std::vector<float> CoordinateMedian(Updates updates);

// Of each value its mean without the `cut` largest and the `cut` smallest; 2·cut < updates.
std::vector<float> TrimmedMean(Updates updates, int64_t cut);

// How many of `count` updates are cut off at each end: `fraction` of them, rounded up, but always
// leaving one.
int64_t TrimCount(double fraction, int64_t count);

// A part of the values.
using ValueRange = wire::ResultLayout::Range;

// For each update the sum of squared distances to its count − byzantine − 2 nearest others (at
// least one, at most all), over the values in `ranges`.
std::vector<double> KrumScores(Updates updates, std::span<const ValueRange> ranges,
                               int64_t byzantine);

// The `count` updates of lowest score, ascending by index; among equals the lower index.
std::vector<size_t> LowestScores(std::span<const double> scores, int64_t count);

// The mean of some updates, all alike.
std::vector<float> MeanOf(Updates updates, std::span<const size_t> chosen);

}  // namespace espalier::server::reduce
