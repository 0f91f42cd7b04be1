// JobManager: all jobs of a coordinator, and the door through which the API reaches them.
//
// Threading: lives on the core executor.
// Errors:    see each member; every violation of a job is reported at once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "server/admission/admission.h"
#include "server/datasets/dataset_views.h"
#include "server/jobs/durable/journal.h"
#include "server/jobs/job_runner.h"
#include "server/jobs/questions/questions.h"
#include "server/jobs/update_ledger.h"
#include "server/store/store.h"

namespace espalier::server::jobs {

class JobManager {
 public:
  // `memory_budget`: bytes that this coordinator may use; 0 = no limit (server/admission).
  JobManager(Services services, const methods::MethodRegistry& methods, uint64_t memory_budget = 0)
      : services_(services), methods_(methods), questions_(services), admission_(memory_budget) {}

  // Before any other call: the jobs of the store that the journal writes, whose workers come back by
  // themselves. Those that another process had in work go on. Errors: those of the store; DataLoss
  // STORE_CORRUPT for records that are none.
  absl::Status Restore(store::Store& store);

  struct Created {
    absl::StatusOr<v1::Job> job;
    std::vector<config::Violation> violations;  // of INVALID_JOB
  };
  // Asks the workers that have the job's data set what it is in the job's view; then fills in what
  // the job leaves out, validates it, and accepts it. `done` is called once, on the core, at once
  // where there is nobody to ask. A repeated request_id returns the first job. Errors:
  // InvalidArgument INVALID_JOB with violations; AlreadyExists JOB_EXISTS; Unavailable
  // DATASET_BEING_READ, where the job leaves sizes out; ResourceExhausted TOO_MANY_JOBS,
  // TOO_MANY_QUESTIONS, or OUT_OF_MEMORY when the system gives no more memory.
  void Create(const v1::CreateJobRequest& request, std::function<void(Created)> done);
  // Errors: NotFound JOB_NOT_FOUND (here and below), naming jobs with similar names.
  absl::StatusOr<v1::Job> Get(const std::string& name) const;
  // Good for ever once it is written (WhenWritten()).
  absl::StatusOr<v1::Job> Cancel(const std::string& name);
  // Calls `then` once what was done so far outlives this process.
  void WhenWritten(Journal::Then then) { services_.journal.WhenWritten(std::move(then)); }
  absl::StatusOr<std::shared_ptr<events::EventLog>> Events(const std::string& name) const;
  // Borrowed: good while this lives.
  absl::StatusOr<const RoundHistory*> Rounds(const std::string& name) const;
  // Where a planner of the job sits. Errors: FailedPrecondition NO_PLANNER where the job's method
  // decides by itself.
  absl::StatusOr<std::shared_ptr<PlannerSeat>> PlannerOf(const std::string& name) const;
  // Newest first, without histories.
  std::vector<v1::Job> List() const;

  // An upload begins: true when this update was counted already. Errors: Aborted when its lease
  // ended; AlreadyExists when another update of that id was counted; InvalidArgument when its
  // header does not fit.
  absl::StatusOr<bool> Admit(const v1::PartialHeader& header) const;
  // `done` is called once the update counts for good, or does not.
  void Accept(round::Upload upload, std::function<void(absl::Status)> done);

  // A worker says what a data set is that it was asked about.
  void Describe(const scheduler::SessionKey& session, v1::DatasetDescription description) {
    services_.datasets.Take(session, std::move(description));
  }

  // What people ask a checkpoint's model.
  Questions& questions() { return questions_; }

  // To be called regularly (every 50 ms or so).
  void Tick();

 private:
  using Answer = datasets::DatasetViews::Answer;

  // What can be said without the workers; nullopt: they are to be asked.
  std::optional<Created> BeforeAsking(const v1::CreateJobRequest& request) const;
  absl::StatusOr<v1::Job> TryCreate(const v1::CreateJobRequest& request, const Answer& answer,
                                    std::vector<config::Violation>& violations);
  // A job that is new here.
  void Enter(const std::shared_ptr<JobRunner>& runner, const std::string& name,
             const std::string& request_id, const admission::Price* price);
  absl::Status RestoreJob(const store::StoredJob& stored);
  JobRunner* Find(const std::string& name) const;
  std::shared_ptr<JobRunner> OwnerOf(const std::string& task_id) const;
  // That somebody has the data set, where anybody is connected.
  void CheckAnswer(const v1::JobSpec& spec, const Answer& answer,
                   std::vector<config::Violation>& violations) const;
  absl::StatusOr<std::string> ChooseId(const v1::CreateJobRequest& request) const;
  void ExportGauges() const;
  // Tells admission how far jobs have come and which have ended.
  void CountMemory();

  Services services_;
  const methods::MethodRegistry& methods_;
  Questions questions_;
  admission::Admission admission_;
  base::Limits limits_;
  std::map<std::string, std::shared_ptr<JobRunner>> jobs_;  // by name
  std::vector<std::string> order_;                          // names, oldest first
  std::map<std::string, std::string> by_request_id_;
  UpdateLedger ledger_;
  std::set<std::string> priced_;  // jobs that take part of the memory budget, or wait for it
};

}  // namespace espalier::server::jobs
