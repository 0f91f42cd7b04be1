// JobDraft: what a new job is, as far as that can be told without the fleet: its complete spec, what it
// takes and its program; or what is wrong with it.
//
// Threading:   pure functions, which read headers of trained models: where a job has one, they run where
//              files may be waited for.
// Errors:      std::bad_alloc and std::length_error of jobs that are too large to be looked at.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/config/access/worker_policy.h"
#include "common/config/validate.h"
#include "espalier/v1/job.pb.h"
#include "server/admission/memory_price.h"
#include "server/checkpoint/checkpoint_store.h"
#include "server/datasets/agreement.h"
#include "server/datasets/dataset_views.h"
#include "server/methods/program.h"
#include "server/scheduler/requirements.h"

namespace espalier::server::jobs {

// What a valid job does, and what it takes.
struct JobPlan {
  std::unique_ptr<methods::Program> program;
  scheduler::Requirements needs;
  admission::Counts counts;
};

// `spec` has its defaults and its rounds.
absl::StatusOr<JobPlan> PlanOf(const v1::JobSpec& spec, const methods::MethodRegistry& methods);

struct JobDraft {
  absl::Status status;                        // unless OK, there will be no job
  std::vector<config::Violation> violations;  // of INVALID_JOB
  v1::JobSpec spec;                           // with defaults
  std::optional<datasets::Agreed> agreed;     // on its data
  JobPlan plan;
};

// What workers' policies look at, in every task of the job.
config::JobTraits TraitsOf(const v1::JobSpec& spec, const std::string& owner);

// Whether its tasks read a data set.
bool TouchesData(const v1::JobSpec& spec);

// The error of a job with these violations, of which there is at least one.
absl::Status Invalid(const std::vector<config::Violation>& violations);

// `answer`: what the workers say of its data set. `offered`: the data sets of those that are connected;
// nullopt: nobody is. `checkpoints` and the library of `methods` have the trained models.
JobDraft DraftOf(const v1::JobSpec& given, const datasets::DatasetViews::Answer& answer,
                 const std::optional<std::set<std::string>>& offered,
                 const checkpoint::CheckpointStore& checkpoints,
                 const methods::MethodRegistry& methods);

}  // namespace espalier::server::jobs
