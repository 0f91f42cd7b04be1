// How many descriptors (open files and connections) the process may have.
//
// The kernel gives every new descriptor the lowest free number. One whose number is at or above a
// bound therefore says that all numbers below it are taken: a connection is refused by its number
// alone, and what lies above stays free for files.
#pragma once

#include "absl/status/statusor.h"

namespace espalier::net {

struct DescriptorBudget {
  int limit = 0;          // of the process, after it was raised
  int connections = 0;    // a connection with this number or a higher one is refused
  int metrics = 0;        // connections to /metrics at once
  int metrics_below = 0;  // one to /metrics with this number or a higher one is refused
};

// A limit of open files that is divided: a quarter of it, at least 8 and at most 256, is kept for
// files and /metrics.
DescriptorBudget DivideDescriptors(int limit);

// Raises the soft limit of open files (RLIMIT_NOFILE) to the hard one, at most to a million, since
// the kernel walks tables of that size. Errors: FailedPrecondition TOO_FEW_DESCRIPTORS when that is
// fewer than `least`.
absl::StatusOr<DescriptorBudget> RaiseDescriptorLimit(int least);

}  // namespace espalier::net
