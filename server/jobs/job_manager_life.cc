// Jobs are found, listed, paused, resumed and deleted.
#include <algorithm>
#include <new>
#include <stdexcept>
#include <string>
#include <utility>

#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/parameters.h"
#include "common/log/log.h"
#include "server/jobs/job_manager.h"
#include "server/store/records/records.pb.h"

namespace espalier::server::jobs {
namespace {

// How long a job that has ended stays in memory after somebody asked for it, and how many do.
constexpr absl::Duration kStaysInMemory = absl::Seconds(30);
constexpr size_t kMostInMemory = 4;

absl::Status NotKept() {
  return base::FailedPrecondition("JOBS_NOT_KEPT",
                                  "expected a coordinator that keeps its jobs, found one that was "
                                  "started with --store memory; start it with --store sqlite");
}

absl::Status JobChanged(const std::string& name) {
  return base::MakeError(
      absl::StatusCode::kAborted, "JOB_CHANGED",
      "the job was changed by another call meanwhile (" + name + "); look at it again");
}

absl::Status OutOfMemory() {
  return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                         "the coordinator has not enough memory left to go on with the job; give "
                         "it more, or try again when other jobs have ended");
}

std::string StateWord(v1::Job::State state) { return v1::Job::State_Name(state).substr(6); }

absl::Status DeleteCheckpoints(checkpoint::CheckpointStore& store, const std::string& job,
                               v1::DeleteJobResponse& removed) {
  std::vector<std::string> checkpoints;
  int64_t bytes = 0;
  for (const auto& info : store.List(job.substr(sizeof("jobs/") - 1))) {
    checkpoints.push_back(info.name);
    bytes += static_cast<int64_t>(info.size_bytes);
  }
  removed.set_checkpoints_deleted(static_cast<int32_t>(checkpoints.size()));
  removed.set_bytes_deleted(bytes);
  return store.Remove(checkpoints);
}

// A job that is no more.
class Deletion : public Journal::Source {
 public:
  // `files`: what the store names of the job; they go once it does not any more.
  Deletion(std::string job, std::shared_ptr<void> files, base::Executor& pool)
      : job_(std::move(job)), files_(std::move(files)), pool_(pool) {}

  Journal::Change TakeChange() override {
    Journal::Change change;
    change.write.job = job_;
    change.write.deleted = true;
    change.written = [files = std::exchange(files_, nullptr), &pool = pool_] {
      pool.Post([files] {});
    };
    return change;
  }

 private:
  const std::string job_;
  std::shared_ptr<void> files_;
  base::Executor& pool_;
};

}  // namespace

std::string JobManager::FullName(const std::string& name) {
  return name.starts_with("jobs/") ? name : "jobs/" + name;
}

absl::Status JobManager::NotFound(const std::string& name) const {
  const std::string nearest = config::Nearest(FullName(name), index_.Names());
  return base::NotFound("JOB_NOT_FOUND", "expected the name of a job, found '" + name + "'; " +
                                             (nearest.empty() ? "see `espalier job list`"
                                                              : "did you mean '" + nearest + "'?"));
}

std::optional<std::string> JobManager::UserOf(const std::string& name) const {
  const JobIndex::Entry* entry = index_.Find(FullName(name));
  if (entry == nullptr) return std::nullopt;
  return entry->owner;
}

std::shared_ptr<JobRunner> JobManager::Find(const std::string& name) const {
  const auto it = jobs_.find(FullName(name));
  return it == jobs_.end() ? nullptr : it->second;
}

void JobManager::With(const std::string& name, Found found) {
  if (const auto job = Find(name)) {
    found(job);
  } else if (index_.Find(FullName(name)) == nullptr) {
    found(NotFound(name));
  } else if (const auto recent = recent_.find(FullName(name)); recent != recent_.end()) {
    recent->second.until = services_.clock.Elapsed() + kStaysInMemory;
    found(recent->second.job);
  } else {
    Read(FullName(name), std::move(found));
  }
}

void JobManager::LetGo(const std::shared_ptr<JobRunner>& runner) {
  // Once is enough, however long it takes to be written.
  if (!services_.journal.keeps() || !leaving_.insert(runner->name()).second) return;
  services_.journal.WhenWritten([this, runner](const absl::Status& written) {
    const auto job = runner->View(false);
    leaving_.erase(job.name());
    const auto it = jobs_.find(job.name());
    const bool is_there = it != jobs_.end() && it->second == runner;
    if (!written.ok() || !is_there || !runner->still() || priced_.contains(job.name())) return;
    index_.SetState(job.name(), job.state());
    if (job.state() == v1::Job::STATE_FAILED) index_.Keep(job.name(), runner->Files());
    Remember(job.name(), runner);
    feeds_.LookAtJob(*runner, index_.Find(job.name())->owner, services_.clock.Elapsed(), true);
    jobs_.erase(it);
  });
}

void JobManager::Remember(const std::string& name, std::shared_ptr<const JobRunner> job) {
  recent_[name] = {std::move(job), services_.clock.Elapsed() + kStaysInMemory};
  while (recent_.size() > kMostInMemory) {
    recent_.erase(std::ranges::min_element(recent_, {},
                                           [](const auto& recent) { return recent.second.until; }));
  }
}

// -- lists --

void JobManager::NoteStates() {
  for (const auto& [name, job] : jobs_) index_.SetState(name, job->state());
}

int64_t JobManager::Count(v1::Job::State state) {
  NoteStates();
  return index_.Count(state);
}

absl::StatusOr<std::vector<JobIndex::Place>> JobManager::Select(
    const v1::ListJobsRequest& request, const std::optional<std::string>& owner) {
  NoteStates();
  return index_.Select(request, owner);
}

absl::StatusOr<std::string> JobManager::OwnerOfJob(const std::string& name) const {
  const JobIndex::Entry* entry = index_.Find(FullName(name));
  if (entry == nullptr) return NotFound(name);
  return entry->owner;
}

void JobManager::View(const std::vector<std::string>& names, Views done) {
  const auto jobs = std::make_shared<std::vector<v1::Job>>(names.size());
  const auto stored = std::make_shared<std::vector<std::pair<size_t, std::string>>>();
  for (size_t i = 0; i < names.size(); ++i) {
    if (const auto job = Find(names[i])) {
      (*jobs)[i] = job->View(false);
    } else {
      stored->emplace_back(i, names[i]);
    }
  }
  if (stored->empty()) {
    done(std::move(*jobs));
    return;
  }
  services_.journal.Read(
      [jobs, stored](store::Store& store) -> absl::Status {
        for (const auto& [index, name] : *stored) {
          ESPALIER_ASSIGN_OR_RETURN(const std::string record, store.ReadRecord(name));
          store::JobRecord parsed;
          if (!parsed.ParseFromString(record)) return CorruptRecord(name, "other bytes");
          (*jobs)[index] = WithoutDetails(std::move(*parsed.mutable_job()));
        }
        return absl::OkStatus();
      },
      [jobs, done = std::move(done)](const absl::Status& status) {
        if (status.ok()) {
          done(std::move(*jobs));
        } else {
          done(status);
        }
      });
}

absl::StatusOr<std::shared_ptr<PlannerSeat>> JobManager::PlannerOf(const std::string& name) const {
  const auto job = Find(name);
  const JobIndex::Entry* entry = index_.Find(FullName(name));
  if (entry == nullptr) return NotFound(name);
  if (job == nullptr) return JobHasEnded(FullName(name), entry->state, "plan");
  if (job->planner() != nullptr) return job->planner();
  return base::FailedPrecondition(
      "NO_PLANNER", "expected a job whose method leaves decisions to a planner, found " + name +
                        ", whose method decides by itself");
}

// -- from one state to another --

absl::StatusOr<v1::Job> JobManager::Cancel(const std::string& name) {
  const auto job = Find(name);
  if (job != nullptr) {
    ESPALIER_RETURN_IF_ERROR(job->Cancel());
    return job->View(true);
  }
  const JobIndex::Entry* entry = index_.Find(FullName(name));
  if (entry == nullptr) return NotFound(name);
  return JobHasEnded(FullName(name), entry->state, "cancel");
}

absl::StatusOr<v1::Job> JobManager::Pause(const std::string& name) {
  const JobIndex::Entry* entry = index_.Find(FullName(name));
  if (entry == nullptr) return NotFound(name);
  if (!services_.journal.keeps()) return NotKept();
  const auto job = Find(name);
  if (job == nullptr) return JobHasEnded(FullName(name), entry->state, "pause");
  ESPALIER_RETURN_IF_ERROR(job->Pause());
  return job->View(true);
}

void JobManager::Resume(const std::string& name, const Changed& done) {
  Unpark(FullName(name), v1::Job::STATE_PAUSED, done);
}

void JobManager::Retry(const std::string& name, const Changed& done) {
  Unpark(FullName(name), v1::Job::STATE_FAILED, done);
}

void JobManager::Unpark(const std::string& name, v1::Job::State state, const Changed& done) {
  NoteStates();
  const JobIndex::Entry* entry = index_.Find(name);
  if (entry == nullptr) {
    done(NotFound(name));
    return;
  }
  if (!services_.journal.keeps()) {
    done(NotKept());
    return;
  }
  if (entry->state != state) {
    done(base::FailedPrecondition("JOB_NOT_" + StateWord(state),
                                  "expected a job that is " + StateWord(state) + ", found " +
                                      StateWord(entry->state) + " (" + name + ")"));
    return;
  }
  if (!changing_.insert(name).second) {
    done(JobChanged(name));
    return;
  }
  const auto end = [this, name, done](const absl::StatusOr<v1::Job>& job) {
    changing_.erase(name);
    done(job);
  };
  WhenStill(name, [this, name, state, end](const absl::Status& written) {
    if (!written.ok()) {
      end(written);
      return;
    }
    const auto stored = std::make_shared<store::StoredJob>();
    services_.journal.Read(
        [stored, name](store::Store& store) -> absl::Status {
          ESPALIER_ASSIGN_OR_RETURN(*stored, store.Read(name));
          return absl::OkStatus();
        },
        [this, stored, state, end](const absl::Status& read) {
          if (!read.ok()) {
            end(read);
            return;
          }
          PlanThen(stored, [this, stored, state, end](absl::StatusOr<JobPlan> plan) {
            const absl::StatusOr<v1::Job> job = UnparkNow(*stored, std::move(plan), state);
            if (!job.ok()) {
              end(job);
              return;
            }
            AnswerWhenWritten([end, job](const absl::Status& status) {
              end(status.ok() ? job : absl::StatusOr<v1::Job>(status));
            });
          });
        });
  });
}

void JobManager::PlanThen(std::shared_ptr<const store::StoredJob> stored,
                          std::function<void(absl::StatusOr<JobPlan>)> then) {
  services_.files.Post([this, stored = std::move(stored), then = std::move(then)] {
    const auto plan = std::make_shared<absl::StatusOr<JobPlan>>(OutOfMemory());
    try {
      *plan = PlanOfStored(*stored, methods_);
    } catch (const std::bad_alloc&) {
    } catch (const std::length_error&) {
    }
    services_.core.Post([plan, then] { then(std::move(*plan)); });
  });
}

void JobManager::WhenStill(const std::string& name, Journal::Then then) {
  const auto job = Find(name);
  // What is not in memory is written.
  if (job == nullptr) {
    then(absl::OkStatus());
    return;
  }
  job->WhenStill(
      [this, then = std::move(then)] { services_.journal.WhenWrittenOrInTrouble(then); });
}

void JobManager::AnswerWhenWritten(Journal::Then answer) {
  services_.journal.WhenWrittenOrInTrouble([answer =
                                                std::move(answer)](const absl::Status& written) {
    answer(base::Annotate(
        written, "what was asked for is kept and written later, since nothing can be written now"));
  });
}

absl::StatusOr<v1::Job> JobManager::UnparkNow(const store::StoredJob& stored,
                                              absl::StatusOr<JobPlan> plan, v1::Job::State state) {
  NoteStates();
  const std::string& name = stored.job;
  // Somebody else may have been first.
  const JobIndex::Entry* entry = index_.Find(name);
  if (entry == nullptr || entry->state != state) {
    return JobChanged(name);
  }
  const bool is_paused = state == v1::Job::STATE_PAUSED;
  if (!is_paused) ESPALIER_RETURN_IF_ERROR(CheckRoom());
  ESPALIER_RETURN_IF_ERROR(CheckJobQuota(entry->owner, is_paused ? 0 : 1));
  Unprice(name);
  const auto before = Find(name);
  const bool is_watched = is_paused && before != nullptr;
  ESPALIER_ASSIGN_OR_RETURN(const auto runner,
                            GoOn(stored, std::move(plan), is_watched ? before->events() : nullptr));
  if (before != nullptr) before->Forget();
  recent_.erase(name);
  index_.Keep(name, nullptr);
  runner->GoOn();
  runner->Tick();
  return runner->View(true);
}

void JobManager::Delete(const v1::DeleteJobRequest& request, Deleted done) {
  NoteStates();
  const std::string name = FullName(request.name());
  const JobIndex::Entry* entry = index_.Find(name);
  if (entry == nullptr) {
    done(NotFound(request.name()));
    return;
  }
  if (!IsEnd(entry->state) && entry->state != v1::Job::STATE_PAUSED) {
    done(base::FailedPrecondition(
        "JOB_IN_WORK", "expected a job that has ended or is PAUSED, found " +
                           StateWord(entry->state) + " (" + name + "); cancel it first"));
    return;
  }
  if (!changing_.insert(name).second) {
    done(JobChanged(name));
    return;
  }
  const auto removed = std::make_shared<v1::DeleteJobResponse>();
  const auto end = [this, name, removed, done = std::move(done)](const absl::Status& status) {
    changing_.erase(name);
    done(status.ok() ? *removed : absl::StatusOr<v1::DeleteJobResponse>(status));
  };
  const auto finish = [this, name, end](const absl::Status& status) {
    if (!status.ok()) {
      end(status);
      return;
    }
    DeleteNow(name);
    AnswerWhenWritten(end);
  };
  const bool with_checkpoints = request.delete_checkpoints();
  WhenStill(name, [this, name, with_checkpoints, removed, finish](const absl::Status& written) {
    if (!written.ok() || !with_checkpoints) {
      finish(written);
      return;
    }
    services_.files.Post([this, name, removed, finish] {
      const absl::Status status = DeleteCheckpoints(services_.checkpoints, name, *removed);
      services_.core.Post([finish, status] { finish(status); });
    });
  });
}

void JobManager::DeleteNow(const std::string& name) {
  std::shared_ptr<void> files = index_.Find(name)->files;
  Unprice(name);
  if (const auto job = Find(name)) {
    job->Dismiss();
    if (files == nullptr) files = job->Files();
    jobs_.erase(name);
  }
  recent_.erase(name);
  services_.rounds->Forget(name);
  index_.Remove(name);
  feeds_.RemoveJob(name);
  log::Info("job_deleted", {{"job", name}});
  services_.journal.Touch(std::make_shared<Deletion>(name, std::move(files), services_.pool));
}

absl::StatusOr<v1::RoundProgress> JobManager::ProgressOf(
    const v1::GetRoundProgressRequest& request) const {
  const std::string name = FullName(request.job());
  if (index_.Find(name) == nullptr) return NotFound(request.job());
  std::optional<v1::RoundProgress> found;
  const auto job = Find(name);
  if (job != nullptr) found = job->RoundInWork(request.round(), request.run());
  const v1::RoundProgress* newest = services_.rounds->Find(name, 0, request.run());
  if (!found.has_value()) {
    const v1::RoundProgress* ended = services_.rounds->Find(name, request.round(), request.run());
    if (ended == nullptr) {
      return base::MakeError(absl::StatusCode::kNotFound, "ROUND_NOT_REMEMBERED",
                             "expected a round in work or one of the newest " +
                                 std::to_string(RoundMemory::kRoundsOfJob) +
                                 " that this coordinator has seen, found round " +
                                 std::to_string(request.round()) + " of " + name +
                                 "; what rounds led to is in ListRounds");
    }
    found = *ended;
  }
  const int32_t oldest = services_.rounds->Oldest(name, request.run());
  found->set_oldest_round(oldest == 0 ? found->round() : oldest);
  found->set_newest_round(std::max(found->round(), newest == nullptr ? 0 : newest->round()));
  return *std::move(found);
}

void JobManager::ForgetOldJobs() {
  NoteStates();
  while (const auto oldest = index_.OldestEndedBeyond(most_ended_)) {
    const auto job = Find(*oldest);
    // Its turn comes.
    if (changing_.contains(*oldest) || (job != nullptr && !job->still())) return;
    DeleteNow(*oldest);
  }
}

}  // namespace espalier::server::jobs
