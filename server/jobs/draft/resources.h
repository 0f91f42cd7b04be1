// What a job's plan takes from a worker, and which connected workers cannot give it.
//
// Threading:   pure functions.
// Errors:      those of the model's layout and of the method's budget.
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "common/config/validate.h"
#include "espalier/v1/job.pb.h"
#include "server/methods/program.h"
#include "server/scheduler/requirements.h"

namespace espalier::server::jobs {

// Of a validated job. Shares of divided data are taken as equal.
absl::StatusOr<scheduler::Requirements> RequirementsOf(const v1::JobSpec& spec,
                                                       const methods::MethodRegistry& methods);

// Appends a violation when workers are connected that offer the data, and fewer of them than
// federation.min_workers are within their budgets: by how much it is too much, and for whom.
void CheckBudgets(const v1::JobSpec& spec, const scheduler::Requirements& needs,
                  const std::vector<v1::Worker>& workers,
                  std::vector<config::Violation>& violations);

}  // namespace espalier::server::jobs
