#include "server/jobs/job_manager.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "absl/strings/ascii.h"
#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/validate.h"
#include "common/log/log.h"
#include "server/datasets/dataset_fit.h"
#include "server/jobs/draft/job_draft.h"
#include "server/jobs/draft/resources.h"
#include "server/store/records/records.pb.h"

namespace espalier::server::jobs {
namespace {

using metrics::Metric;

constexpr size_t kMaxRequestIdBytes = 64;

std::string LowerCase(std::string word) {
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return word;
}

absl::Status OutOfMemory() {
  return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                         "the coordinator has not enough memory left to look at this job; use a "
                         "smaller model or fewer shards, or give the coordinator more memory");
}

// The job is there, and a later commit may still write it down.
absl::Status NotWritten(const v1::Job& job, const absl::Status& trouble) {
  return base::Annotate(
      trouble, job.name() +
                   " was taken but cannot be written now, and begins once it can be; look with "
                   "`espalier job get` before submitting it again");
}

// Workers that have other data, and those whose policies do not allow the job.
void TellLeftOut(const JobDraft& draft, const datasets::DatasetViews::Answer& answer,
                 v1::Job& job) {
  std::map<std::string, std::string> left_out;
  if (draft.agreed.has_value()) left_out = draft.agreed->left_out;
  for (const auto& [worker, refused] : answer.refusing) {
    left_out[worker] = datasets::WhyRefusing(refused);
  }
  datasets::TellLeftOut(left_out, job);
}

}  // namespace

absl::StatusOr<std::string> JobManager::ChooseId(const v1::CreateJobRequest& request) const {
  const auto taken = [this](const std::string& id) {
    return index_.Find("jobs/" + id) != nullptr || !services_.checkpoints.List(id).empty();
  };
  if (!request.job_id().empty()) {
    if (!base::IsValidId(request.job_id())) {
      return base::InvalidArgument("INVALID_JOB_ID",
                                   "expected a job id of 1 to 63 lower-case letters, digits and "
                                   "'-', beginning with a letter; found '" +
                                       request.job_id() + "'");
    }
    if (taken(request.job_id())) {
      return base::MakeError(absl::StatusCode::kAlreadyExists, "JOB_EXISTS",
                             "expected a new job id, found one in use: '" + request.job_id() +
                                 "' (a job or its checkpoints); choose another");
    }
    return request.job_id();
  }
  const std::string base =
      request.spec().method().name() + "-" +
      absl::FormatTime("%m%d-%H%M%S", services_.clock.Wall(), absl::UTCTimeZone());
  std::string id = base;
  for (int suffix = 2; taken(id); ++suffix) id = base + "-" + std::to_string(suffix);
  return id;
}

std::optional<JobManager::Created> JobManager::BeforeAsking(const v1::CreateJobRequest& request,
                                                            const std::string& owner) {
  if (request.request_id().size() > kMaxRequestIdBytes) {
    return Created{base::InvalidArgument("INVALID_REQUEST_ID",
                                         "expected a request id of at most " +
                                             std::to_string(kMaxRequestIdBytes) + " bytes, found " +
                                             std::to_string(request.request_id().size())),
                   {}};
  }
  if (const auto& trouble = services_.journal.trouble(); trouble.has_value()) {
    return Created{base::Annotate(*trouble, "no job can be accepted at present"), {}};
  }
  NoteStates();
  for (const absl::Status& quota : {CheckJobQuota(owner, 1), CheckCheckpointQuota(owner)}) {
    if (!quota.ok()) return Created{quota, {}};
  }
  std::vector<config::Violation> violations = config::CheckSizes(request.spec());
  if (violations.empty()) return std::nullopt;
  absl::Status invalid = Invalid(violations);
  return Created{std::move(invalid), std::move(violations)};
}

void JobManager::Create(const v1::CreateJobRequest& request, const std::string& owner,
                        std::function<void(Created)> done) {
  // That a job was accepted is said once it is written.
  const auto tell = [this, validate_only = request.validate_only(),
                     done = std::move(done)](const Created& created) {
    if (!created.job.ok() || validate_only) {
      done(created);
      return;
    }
    services_.journal.WhenWrittenOrInTrouble([done, created](const absl::Status& written) {
      done(written.ok() ? created : Created{NotWritten(*created.job, written), {}});
    });
  };
  // A repeated call gets the first one's job.
  if (const auto name = index_.OfRequest(owner, request.request_id())) {
    With(*name, [tell](const absl::StatusOr<std::shared_ptr<const JobRunner>>& job) {
      tell(job.ok() ? Created{(*job)->View(true), {}} : Created{job.status(), {}});
    });
    return;
  }
  try {
    if (auto early = BeforeAsking(request, owner)) {
      tell(*early);
      return;
    }
    const auto finish = [this, request, owner, tell](const Answer& answer) {
      Draft(request.spec(), answer, [this, request, owner, answer, tell](JobDraft draft) {
        Created created{OutOfMemory(), {}};
        try {
          created.job = TryCreate(request, owner, answer, draft);
          created.violations = std::move(draft.violations);
        } catch (const std::bad_alloc&) {
        } catch (const std::length_error&) {
        }
        tell(created);
      });
    };
    if (!TouchesData(request.spec()) || request.spec().data().dataset().empty()) {
      finish({});
      return;
    }
    if (services_.datasets.Ask(datasets::ViewOf(request.spec()), TraitsOf(request.spec(), owner),
                               finish)) {
      return;
    }
    tell({base::MakeError(absl::StatusCode::kResourceExhausted, "TOO_MANY_QUESTIONS",
                          "expected fewer jobs whose data sets are being read at once; submit the "
                          "job again in a moment"),
          {}});
    return;
  } catch (const std::bad_alloc&) {
  } catch (const std::length_error&) {
  }
  tell({OutOfMemory(), {}});
}

void JobManager::Draft(const v1::JobSpec& spec, const Answer& answer,
                       std::function<void(JobDraft)> done) {
  std::optional<std::set<std::string>> offered;
  if (services_.fleet.active() > 0) offered = services_.fleet.Datasets();
  const auto draft = [this, spec, answer, offered = std::move(offered)] {
    JobDraft made;
    made.status = OutOfMemory();
    try {
      made = DraftOf(spec, answer, offered, services_.checkpoints, methods_);
    } catch (const std::bad_alloc&) {
    } catch (const std::length_error&) {
    }
    return made;
  };
  if (spec.model().pretrained().empty()) {
    done(draft());
    return;
  }
  services_.files.Post([this, draft, done = std::move(done)] {
    const auto made = std::make_shared<JobDraft>(draft());
    services_.core.Post([made, done] { done(std::move(*made)); });
  });
}

absl::StatusOr<v1::Job> JobManager::TryCreate(const v1::CreateJobRequest& request,
                                              const std::string& owner, const Answer& answer,
                                              JobDraft& draft) {
  // Another call of the same id may have been first while the workers were asked.
  if (const auto name = index_.OfRequest(owner, request.request_id())) {
    const auto first = Find(*name);
    if (first != nullptr) return first->View(true);
    return base::MakeError(absl::StatusCode::kAborted, "REQUEST_REPEATED",
                           "another call with the same request_id was first; call again");
  }
  if (auto early = BeforeAsking(request, owner)) {
    draft.violations = std::move(early->violations);
    return early->job;
  }
  ESPALIER_RETURN_IF_ERROR(draft.status);
  const v1::JobSpec& spec = draft.spec;
  scheduler::Requirements needs = std::move(draft.plan.needs);
  needs.job = TraitsOf(spec, owner);
  std::shared_ptr<datasets::JobView> view;
  if (!needs.dataset.empty()) {
    view = services_.datasets.Follow(datasets::ViewOf(spec), *needs.job, datasets::FitJudge(spec),
                                     answer.described);
    needs.describe = [view](const v1::Worker& worker) {
      return view->Find(scheduler::WorkerId(worker));
    };
  }
  std::vector<config::Violation>& violations = draft.violations;
  CheckBudgets(spec, needs, services_.fleet.List(), violations);
  const auto pool = services_.fleet.MakePool(std::move(needs));
  const auto workers = static_cast<int64_t>(pool->able().size());
  const admission::Price price = admission::PriceOf(spec, draft.plan.counts, workers);
  CountMemory();
  if (auto refusal = admission_.Refusal(spec, price)) violations.push_back(*std::move(refusal));
  if (!violations.empty()) return Invalid(violations);
  NoteStates();
  ESPALIER_RETURN_IF_ERROR(CheckRoom());
  v1::Job job;
  *job.mutable_spec() = spec;
  job.set_owner(owner);
  job.set_total_rounds(draft.plan.counts.total_rounds);
  TellLeftOut(draft, answer, job);
  ESPALIER_ASSIGN_OR_RETURN(const std::string id, ChooseId(request));
  if (request.validate_only()) return job;
  job.set_name("jobs/" + id);
  auto runner =
      std::make_shared<JobRunner>(services_, job, pool, view, std::move(draft.plan.program));
  if (services_.journal.keeps()) {
    store::AcceptedJob accepted;
    *accepted.mutable_spec() = spec;
    accepted.set_request_id(request.request_id());
    accepted.set_workers(workers);
    accepted.set_number(index_.next_number());
    accepted.set_owner(owner);
    runner->KeepAs(accepted.SerializeAsString());
  }
  index_.Add(job.name(), index_.next_number(), spec, v1::Job::STATE_PENDING, owner,
             request.request_id());
  Enter(runner, job.name(), &price);
  runner->Tick();
  return runner->View(true);
}

int64_t JobManager::CountUnended() const {
  int64_t not_ended = 0;
  for (const v1::Job::State state : {v1::Job::STATE_PENDING, v1::Job::STATE_RUNNING,
                                     v1::Job::STATE_CANCELLING, v1::Job::STATE_PAUSED}) {
    not_ended += index_.Count(state);
  }
  return not_ended;
}

absl::Status JobManager::CheckRoom() const {
  if (CountUnended() < limits_.max_jobs) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kResourceExhausted, "TOO_MANY_JOBS",
                         "expected fewer than " + std::to_string(limits_.max_jobs) +
                             " jobs that have not ended; wait until some have, or cancel them");
}

void JobManager::Enter(const std::shared_ptr<JobRunner>& runner, const std::string& name,
                       const admission::Price* price) {
  jobs_[name] = runner;
  feeds_.AddJob(name, index_.Find(name)->owner, runner->events().get());
  if (price == nullptr) return;
  admission_.Enter(name, *price);
  priced_.insert(name);
  runner->BeginWhen([this, name](bool ready) { return admission_.MayBegin(name, ready); });
}

std::shared_ptr<JobRunner> JobManager::OwnerOf(const std::string& task_id) const {
  const auto it = jobs_.find(services_.fleet.JobOf(task_id));
  if (it == jobs_.end() || it->second->at_rest() || !it->second->Owns(task_id)) return nullptr;
  return it->second;
}

std::optional<round::TaskInWork> JobManager::InWork(const std::string& task_id) const {
  if (questions_.Owns(task_id)) return questions_.InWork(task_id);
  const auto job = OwnerOf(task_id);
  return job == nullptr ? std::nullopt : job->InWork(task_id);
}

absl::StatusOr<bool> JobManager::Admit(const v1::PartialHeader& header) {
  const absl::StatusOr<admission::Known> known = gate_.CheckHeader(header);
  if (known.ok()) return *known == admission::Known::kCounted;
  Refused(header, known.status());
  return known.status();
}

void JobManager::Refused(const v1::PartialHeader& header, const absl::Status& why) {
  Blame(services_.fleet.worker_of(header.session()), header.update_id(), why);
}

// Later, since a quarantine takes the worker's task away from a step that may be about to end.
void JobManager::Blame(const std::string& worker, const std::string& update_id,
                       const absl::Status& why) {
  const std::string reason = base::ReasonOf(why);
  if (worker.empty() || !admission::IsStrike(reason)) return;
  services_.core.Post([this, worker, update_id, reason] {
    if (!services_.fleet.Strike(worker, update_id, reason)) return;
    services_.metrics.Add(Metric::kWorkerStrikes, 1, LowerCase(reason));
  });
}

void JobManager::Accept(round::Upload upload, std::function<void(absl::Status)> done) {
  const v1::PartialHeader header = upload.header;
  const absl::StatusOr<admission::Known> known = gate_.CheckHeader(header);
  if (!known.ok()) {
    Refused(header, known.status());
    done(known.status());
    return;
  }
  if (*known == admission::Known::kCounted) {  // it arrived twice at once, and the other was first
    services_.journal.WhenWritten(std::move(done));
    return;
  }
  if (*known == admission::Known::kBeingCounted) {
    ledger_.Wait(header.update_id(), std::move(done));
    return;
  }
  const std::string worker = services_.fleet.worker_of(header.session());
  if (questions_.Owns(header.task_id())) {
    questions_.Accept(std::move(upload), [this, id = header.update_id(), worker,
                                          done = std::move(done)](const absl::Status& status) {
      if (!status.ok()) Blame(worker, id, status);
      done(status);
    });
    return;
  }
  const auto owner = OwnerOf(header.task_id());
  ledger_.Begin(header);
  owner->Accept(std::move(upload),
                [this, header, worker, done = std::move(done)](const absl::Status& status) {
                  std::vector<UpdateLedger::Done> all = ledger_.End(header.update_id());
                  all.push_back(done);
                  if (status.ok()) {
                    ledger_.Count(header);
                  } else {
                    Blame(worker, header.update_id(), status);
                  }
                  for (UpdateLedger::Done& each : all) {
                    if (status.ok()) {
                      services_.journal.WhenWritten(std::move(each));
                    } else {
                      each(status);
                    }
                  }
                });
}

void JobManager::CountMemory() {
  std::erase_if(priced_, [this](const std::string& name) {
    const JobRunner& job = *jobs_.at(name);
    admission_.Progress(name, job.round());
    if (job.holds_models()) return false;
    admission_.Leave(name, !services_.journal.keeps());
    return true;
  });
}

void JobManager::Unprice(const std::string& name) {
  if (priced_.erase(name) > 0) admission_.Leave(name, false);
  admission_.Forget(name);
}

void JobManager::Tick() {
  services_.fleet.Tick();
  services_.datasets.Tick();
  services_.journal.Tick();
  questions_.Tick();
  CountMemory();
  // A copy: a job may end, and its callbacks may look jobs up, while others are visited.
  std::vector<std::shared_ptr<JobRunner>> all;
  all.reserve(jobs_.size());
  for (const auto& [name, job] : jobs_) all.push_back(job);
  for (const auto& job : all) {
    if (job->ended()) {
      LetGo(job);
    } else {
      job->Tick();
    }
  }
  const absl::Duration now = services_.clock.Elapsed();
  std::erase_if(recent_, [now](const auto& recent) { return recent.second.until < now; });
  ForgetOldJobs();
  LookAtJobs();
  if (feeds_.WantsWorkers(services_.clock.Elapsed())) LookAtWorkers();
  feeds_.Tell();
  ExportGauges();
}

void JobManager::LookAtChanges() {
  LookAtJobs();
  LookAtWorkers();
}

void JobManager::LookAtJobs() {
  const absl::Duration now = services_.clock.Elapsed();
  for (const auto& [name, job] : jobs_) feeds_.LookAtJob(*job, index_.Find(name)->owner, now);
}

void JobManager::LookAtWorkers() {
  feeds_.LookAtWorkers(services_.fleet.List(), services_.clock.Elapsed());
}

void JobManager::ExportGauges() {
  const std::pair<v1::Job::State, const char*> job_states[] = {
      {v1::Job::STATE_PENDING, "pending"},       {v1::Job::STATE_RUNNING, "running"},
      {v1::Job::STATE_CANCELLING, "cancelling"}, {v1::Job::STATE_CANCELLED, "cancelled"},
      {v1::Job::STATE_PAUSED, "paused"},         {v1::Job::STATE_SUCCEEDED, "succeeded"},
      {v1::Job::STATE_FAILED, "failed"}};
  for (const auto& [state, word] : job_states) {
    services_.metrics.Set(Metric::kJobs, static_cast<double>(Count(state)), word);
  }
  ExportWaits();
  const auto add_new = [this](Metric metric, uint64_t now, uint64_t& exported) {
    services_.metrics.Add(metric, static_cast<double>(now - std::exchange(exported, now)));
  };
  add_new(Metric::kLeaseExpirations, services_.fleet.lease_expirations(), exported_leases_);
  add_new(Metric::kReconnects, services_.fleet.reconnects(), exported_reconnects_);
  const auto workers = services_.fleet.CountByState();
  const std::pair<v1::Worker::State, const char*> worker_states[] = {
      {v1::Worker::STATE_ACTIVE, "active"},
      {v1::Worker::STATE_DRAINING, "draining"},
      {v1::Worker::STATE_QUARANTINED, "quarantined"},
      {v1::Worker::STATE_LOST, "lost"},
      {v1::Worker::STATE_LEFT, "left"}};
  for (const auto& [state, word] : worker_states) {
    const auto it = workers.find(state);
    services_.metrics.Set(Metric::kWorkers, it == workers.end() ? 0 : it->second, word);
  }
}

void JobManager::ExportWaits() {
  std::map<std::string, int64_t> waiting;
  for (const std::string_view condition : metrics::Find(Metric::kJobsWaiting).values) {
    waiting[std::string(condition)] = 0;
  }
  absl::Time oldest = absl::InfiniteFuture();
  for (const auto& [name, job] : jobs_) {
    if (job->at_rest()) continue;
    if (const std::string condition = absl::AsciiStrToLower(job->condition()); !condition.empty()) {
      const auto known = waiting.find(condition);
      ++(known == waiting.end() ? waiting["other"] : known->second);
    }
    if (job->state() == v1::Job::STATE_RUNNING) oldest = std::min(oldest, job->last_progress());
  }
  for (const auto& [condition, jobs] : waiting) {
    services_.metrics.Set(Metric::kJobsWaiting, static_cast<double>(jobs), condition);
  }
  services_.metrics.Set(
      Metric::kJobOldestProgress,
      oldest == absl::InfiniteFuture() ? 0 : absl::ToDoubleSeconds(oldest - absl::UnixEpoch()));
  const auto tasks = services_.fleet.CountTasks();
  services_.metrics.Set(Metric::kTasks, static_cast<double>(tasks.waiting), "waiting");
  services_.metrics.Set(Metric::kTasks, static_cast<double>(tasks.leased), "leased");
}

}  // namespace espalier::server::jobs
