// The rounds of a job as CSV (RFC 4180, lines end with a line feed).
#pragma once

#include <string>

#include "espalier/v1/job.pb.h"

namespace espalier::cli {

// A line with the names of the columns, then one for each round. Columns are the fields of
// RoundSummary that are one value, by their names; durations are seconds, with "_seconds" after the
// name. Metrics that some round has follow by their own names, those of sites with "federated_" in
// front. Cells of what a round does not have are empty. Layers are left out.
std::string RoundsCsv(const v1::ListRoundsResponse& rounds);

}  // namespace espalier::cli
