// JobManager: all jobs of a coordinator, and the door through which the API reaches them.
//
// Memory:    a job that has ended is in the store, and is read from there when somebody asks for it;
//            memory has its line in the index (listing/job_index.h). Without a store all jobs stay.
// Threading: lives on the core executor.
// Errors:    see each member; every violation of a job is reported at once.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/access/quotas.h"
#include "server/admission/admission.h"
#include "server/admission/update_gate.h"
#include "server/datasets/dataset_views.h"
#include "server/jobs/draft/job_draft.h"
#include "server/jobs/durable/journal.h"
#include "server/jobs/job_runner.h"
#include "server/jobs/listing/cluster_feeds.h"
#include "server/jobs/listing/job_index.h"
#include "server/jobs/questions/questions.h"
#include "server/jobs/update_ledger.h"
#include "server/store/store.h"

namespace espalier::server::jobs {

// The error of a job of the store that is not what was written.
absl::Status CorruptRecord(const std::string& job, const std::string& what);

// Of a job that is kept. It may read headers of trained models, on any thread.
absl::StatusOr<JobPlan> PlanOfStored(const store::StoredJob& stored,
                                     const methods::MethodRegistry& methods);

class JobManager {
 public:
  // `memory_budget`: bytes that this coordinator may use; 0 = no limit (server/admission). Of jobs
  // that have ended the newest `most_ended` are kept.
  JobManager(Services services, const methods::MethodRegistry& methods, uint64_t memory_budget = 0,
             int64_t most_ended = base::Limits().max_ended_jobs)
      : services_(services),
        methods_(methods),
        questions_(services),
        admission_(memory_budget),
        gate_(services_.fleet, ledger_, [this](const auto& task_id) { return InWork(task_id); }),
        most_ended_(most_ended),
        feeds_(services_.clock.Wall()) {}

  // What each user may take, from now on: at the start, and whenever the operator changes it. What is
  // in work beyond it goes on.
  void SetQuotas(config::Quotas quotas);

  // Before any other call but that: the jobs of the store that the journal writes, whose workers come back by
  // themselves. Those that another process had in work go on. Errors: those of the store; DataLoss
  // STORE_CORRUPT for records that are none.
  absl::Status Restore(store::Store& store);

  struct Created {
    absl::StatusOr<v1::Job> job;
    std::vector<config::Violation> violations;  // of INVALID_JOB
  };
  // Asks the workers that have the job's data set what it is in the job's view; then fills in what
  // the job leaves out, validates it, and accepts it for `owner`, the user who asks; "" where the
  // cluster does not know its users. `done` is called once, on the core, at once where there is
  // nobody to ask. A repeated request_id of the same owner returns the first job. Errors:
  // InvalidArgument INVALID_JOB with violations; AlreadyExists JOB_EXISTS; Unavailable
  // DATASET_BEING_READ, where the job leaves sizes out; ResourceExhausted TOO_MANY_JOBS,
  // QUOTA_EXCEEDED, TOO_MANY_QUESTIONS, or OUT_OF_MEMORY when the system gives no more memory.
  void Create(const v1::CreateJobRequest& request, const std::string& owner,
              std::function<void(Created)> done);
  // `found` is called once with the job, at once where it is in memory; else it is read from the
  // store. Errors: NotFound JOB_NOT_FOUND (here and below), naming jobs with similar names.
  using Found = std::function<void(absl::StatusOr<std::shared_ptr<const JobRunner>>)>;
  void With(const std::string& name, Found found);
  // What Cancel() and Pause() did is good for ever once it is written (AnswerWhenWritten()).
  absl::StatusOr<v1::Job> Cancel(const std::string& name);
  // Errors: FailedPrecondition JOB_ENDED, JOB_PAUSED, JOBS_NOT_KEPT.
  absl::StatusOr<v1::Job> Pause(const std::string& name);
  // `done` is called once it is written. Errors: FailedPrecondition JOB_NOT_PAUSED, JOB_NOT_FAILED,
  // JOBS_NOT_KEPT; Aborted JOB_CHANGED when another call changes the job at the same time;
  // ResourceExhausted TOO_MANY_JOBS, QUOTA_EXCEEDED; those of the store.
  using Changed = std::function<void(absl::StatusOr<v1::Job>)>;
  void Resume(const std::string& name, const Changed& done);
  void Retry(const std::string& name, const Changed& done);
  // Errors: FailedPrecondition JOB_IN_WORK, CHECKPOINT_IN_USE; Aborted JOB_CHANGED; those of the file
  // system.
  using Deleted = std::function<void(absl::StatusOr<v1::DeleteJobResponse>)>;
  void Delete(const v1::DeleteJobRequest& request, Deleted done);
  // Calls `then` once what was done so far outlives this process.
  void WhenWritten(Journal::Then then) { services_.journal.WhenWritten(std::move(then)); }
  // The same for a call of somebody who waits: while nothing can be written it ends with the reason,
  // and what it did is written later.
  void AnswerWhenWritten(Journal::Then answer);
  // Where a planner of the job sits. Errors: FailedPrecondition NO_PLANNER where the job's method
  // decides by itself.
  absl::StatusOr<std::shared_ptr<PlannerSeat>> PlannerOf(const std::string& name) const;
  // The user whom a job belongs to; no file is read for that.
  absl::StatusOr<std::string> OwnerOfJob(const std::string& name) const;
  // The jobs that are asked for, in that order; of one user, where there is an `owner`. Errors:
  // InvalidArgument INVALID_FILTER.
  absl::StatusOr<std::vector<JobIndex::Place>> Select(
      const v1::ListJobsRequest& request, const std::optional<std::string>& owner = std::nullopt);
  // Jobs that Select() has just named, without histories.
  using Views = std::function<void(absl::StatusOr<std::vector<v1::Job>>)>;
  void View(const std::vector<std::string>& names, Views done);
  // Whose job it is, "" where nobody knows; nullopt where there is none of that name.
  std::optional<std::string> UserOf(const std::string& name) const;
  // A round in work, or one of the newest. Errors: NotFound JOB_NOT_FOUND, ROUND_NOT_REMEMBERED.
  absl::StatusOr<v1::RoundProgress> ProgressOf(const v1::GetRoundProgressRequest& request) const;
  int64_t Count(v1::Job::State state);
  size_t size() const { return index_.size(); }
  // Jobs that have not ended.
  int64_t CountUnended() const;
  // Why nothing can be written at present.
  const std::optional<absl::Status>& trouble() const { return services_.journal.trouble(); }

  // An upload begins: true when this update was counted already. Errors: those of the gate
  // (admission/update_gate.h).
  absl::StatusOr<bool> Admit(const v1::PartialHeader& header);
  // Its body has come, and is the one that the header announced. `done` is called once the update
  // counts for good, or does not.
  void Accept(round::Upload upload, std::function<void(absl::Status)> done);
  // Its body was refused as it came: Accept() is not called. Those that Admit() and Accept() refuse
  // are known without this.
  void Refused(const v1::PartialHeader& header, const absl::Status& why);

  // A worker says what a data set is that it was asked about.
  void Describe(const scheduler::SessionKey& session, v1::DatasetDescription description) {
    services_.datasets.Take(session, std::move(description));
  }

  // What changes, for those who watch all jobs or all workers, as of the last Tick() or LookAtChanges().
  ClusterFeeds& feeds() { return feeds_; }
  void LookAtChanges();
  // What people ask a checkpoint's model.
  Questions& questions() { return questions_; }

  // To be called regularly (every 50 ms or so).
  void Tick();

 private:
  using Answer = datasets::DatasetViews::Answer;

  // What can be said without the workers; nullopt: they are to be asked.
  std::optional<Created> BeforeAsking(const v1::CreateJobRequest& request,
                                      const std::string& owner);
  // `done` is called on the core, at once where no trained model has to be looked at.
  void Draft(const v1::JobSpec& spec, const Answer& answer, std::function<void(JobDraft)> done);
  absl::StatusOr<v1::Job> TryCreate(const v1::CreateJobRequest& request, const std::string& owner,
                                    const Answer& answer, JobDraft& draft);
  // A job that goes on here.
  void Enter(const std::shared_ptr<JobRunner>& runner, const std::string& name,
             const admission::Price* price);
  // A job of the store, as it was left.
  absl::Status RestoreJob(const store::StoredJob& stored);
  // Goes on with a job of the store, if it has a `plan`. `log`: that of its watchers, if there are any.
  absl::StatusOr<std::shared_ptr<JobRunner>> GoOn(const store::StoredJob& stored,
                                                  absl::StatusOr<JobPlan> plan,
                                                  std::shared_ptr<events::EventLog> log);
  // Goes on with a parked job that is in `state`.
  void Unpark(const std::string& name, v1::Job::State state, const Changed& done);
  // `then` is called on the core with what a job of the store does and takes.
  void PlanThen(std::shared_ptr<const store::StoredJob> stored,
                std::function<void(absl::StatusOr<JobPlan>)> then);
  absl::StatusOr<v1::Job> UnparkNow(const store::StoredJob& stored, absl::StatusOr<JobPlan> plan,
                                    v1::Job::State state);
  // A job that has ended, from the store.
  void Remember(const std::string& name, std::shared_ptr<const JobRunner> job);
  void Read(const std::string& name, Found found);
  absl::Status NotFound(const std::string& name) const;
  // What it is called with "jobs/" before it.
  static std::string FullName(const std::string& name);
  // Null when it is not in memory.
  std::shared_ptr<JobRunner> Find(const std::string& name) const;
  // Calls `then` once the job, where it is in memory, is still and written.
  void WhenStill(const std::string& name, Journal::Then then);
  // An ended job that is written leaves memory.
  void LetGo(const std::shared_ptr<JobRunner>& runner);
  void DeleteNow(const std::string& name);
  // It takes no part of the memory budget any more.
  void Unprice(const std::string& name);
  // The oldest that have ended, beyond the most that are kept.
  void ForgetOldJobs();
  void NoteStates();
  std::shared_ptr<JobRunner> OwnerOf(const std::string& task_id) const;
  std::optional<round::TaskInWork> InWork(const std::string& task_id) const;
  // A strike of the worker, if no honest one's result is refused for that.
  void Blame(const std::string& worker, const std::string& update_id, const absl::Status& why);
  // That a further job may be in work. Errors: ResourceExhausted TOO_MANY_JOBS.
  absl::Status CheckRoom() const;
  // That the user may have so many jobs more that have not ended; 0 for one that is among them.
  absl::Status CheckJobQuota(const std::string& owner, int64_t more) const;
  // That the user's checkpoints leave room for those of another job.
  absl::Status CheckCheckpointQuota(const std::string& owner) const;
  absl::StatusOr<std::string> ChooseId(const v1::CreateJobRequest& request) const;
  void LookAtJobs();
  void LookAtWorkers();
  void ExportGauges();
  // What waits, and for how long nothing has moved.
  void ExportWaits();
  // Tells admission how far jobs have come and which have ended.
  void CountMemory();

  Services services_;
  const methods::MethodRegistry& methods_;
  Questions questions_;
  admission::Admission admission_;
  UpdateLedger ledger_;
  admission::UpdateGate gate_;
  base::Limits limits_;
  const int64_t most_ended_;
  JobIndex index_;
  ClusterFeeds feeds_;
  config::Quotas quotas_;
  // By their names: jobs that have not ended; without a store all.
  std::map<std::string, std::shared_ptr<JobRunner>> jobs_;
  // Jobs that have ended and were asked for a moment ago.
  struct Recent {
    std::shared_ptr<const JobRunner> job;
    absl::Duration until;
  };
  std::map<std::string, Recent> recent_;
  // Jobs at rest that a call is changing, one for each; and jobs that are about to leave memory.
  std::set<std::string> changing_;
  std::set<std::string> leaving_;
  // What of the fleet's counts the metrics have.
  uint64_t exported_leases_ = 0;
  uint64_t exported_reconnects_ = 0;
  std::set<std::string> priced_;  // jobs that take part of the memory budget, or wait for it
};

}  // namespace espalier::server::jobs
