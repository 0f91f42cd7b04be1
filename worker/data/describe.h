// What a data set is in the view of one job: DescribeDataset().
//
// Cost:        reads all files of the data set twice: for what they hold, and for their digest.
// Errors:      those of load.h. A data set of another kind than the view asks for (text,
//              interactions, examples) is described as what it is, without a digest.
#pragma once

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

// Of `view` all that changes how files are read counts: format, label column, delimiter, header,
// missing, words, image_size, text, interactions and whether the partition is LOCAL.
absl::StatusOr<v1::DatasetInfo> DescribeDataset(const DataRoot& root, const v1::DataSpec& view,
                                                const LoadOptions& options);

}  // namespace espalier::worker::data
