// What a data set is in the view of one job.
#pragma once

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

absl::StatusOr<v1::DatasetInfo> DescribeDataset(const DataRoot& root, const v1::DataSpec& view,
                                                const LoadOptions& options);

}  // namespace espalier::worker::data
