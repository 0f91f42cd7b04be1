// A data set as JSON, for a program that has no coordinator to ask: espalier-worker --describe.
//
// Format:      one object:
//                "dataset"     the description, a DatasetInfo in the proto mapping of JSON with the
//                              proto's field names; why there is none is its "problem"
//                "last_fifth"  how far the classes of the last fifth of the examples are from those
//                              of all, 0 to 1; see held_out.h
// Threading:   pure function of the files.
// Errors:      InvalidArgument DATA_SPEC_INVALID for a `view` that is no DataSpec.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "worker/data/load_options.h"

namespace espalier::worker::data {

// `folder`: path of the data set's own folder; the folder around it is the data root. `view`: a
// DataSpec as JSON without `dataset`, for what the data set is in the view of a job; "" = what it
// looks like. A view with `text` counts examples, too, for files of at most 64 MiB.
absl::StatusOr<std::string> DescribeAsJson(const std::string& folder, const std::string& view,
                                           const LoadOptions& options);

}  // namespace espalier::worker::data
