// What is kept of a run beside its program's state, as a record and back.
//
// Times:     durations since something began, since clocks of two processes have nothing in common.
// Threading: pure functions, on the core executor.
#pragma once

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "server/jobs/branch.h"
#include "server/store/records/records.pb.h"

namespace espalier::server::jobs {

// `now`: of the clock that the branch's times are of.
store::RunRecord RecordOf(const Branch& branch, absl::Duration now);
// Without model and step.
std::shared_ptr<Branch> BranchOf(const store::RunRecord& record, const std::string& job,
                                 absl::Duration now);

}  // namespace espalier::server::jobs
