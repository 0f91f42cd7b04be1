// What would be held out of a data set without a test file: data.test_fraction takes the last
// examples, which are like the others only if the file is in no order.
//
// Threading:   pure functions.
// Errors:      those of load.h.
#pragma once

#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

// How far the classes of the last `share` of `labels` (0 ≤ each < num_classes) are from those of
// all: the total variation distance, ½ Σ over classes of |frequency at the end − frequency in all|.
// 0 = alike; near 1 − share of a class when the end holds nothing but that class. 0 when `share`
// holds no label.
double ShiftOfLast(std::span<const int32_t> labels, int32_t num_classes, double share);

// The same of the data set that `info` describes in `view`. 0 for what holds out by another rule:
// data sets with test examples, text, interactions and images in folders, and files that were not
// counted.
absl::StatusOr<double> ShiftOfHeldOut(const DataRoot& root, const v1::DataSpec& view,
                                      const v1::DatasetInfo& info, double share,
                                      const LoadOptions& options);

}  // namespace espalier::worker::data
