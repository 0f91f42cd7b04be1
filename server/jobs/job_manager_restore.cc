// The jobs that another process left in the store.
#include <memory>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/log/log.h"
#include "server/admission/memory_price.h"
#include "server/datasets/dataset_fit.h"
#include "server/jobs/draft/resources.h"
#include "server/jobs/job_manager.h"
#include "server/store/records/records.pb.h"

namespace espalier::server::jobs {

absl::Status CorruptRecord(const std::string& job, const std::string& what) {
  return base::MakeError(absl::StatusCode::kDataLoss, "STORE_CORRUPT",
                         "expected the record of " + job + " as it was written, found " + what +
                             "; put a copy of the store in its place");
}

namespace {

// The body of an update that was written, from the record itself or from a file.
round::Body BodyOf(const store::UpdateRecord& record, const pretrained::PartStore& parts) {
  if (record.has_file()) {
    return [digest = record.file(), &parts](uint64_t offset, uint64_t size,
                                            const auto& sink) -> absl::Status {
      // Looks at the bytes when they are read first.
      ESPALIER_ASSIGN_OR_RETURN(const pretrained::Part part, parts.Find(digest));
      return sink(part.bytes().substr(offset, size));
    };
  }
  return [bytes = std::make_shared<const std::string>(record.bytes())](
             uint64_t offset, uint64_t size, const auto& sink) {
    return sink(std::string_view(*bytes).substr(offset, size));
  };
}

// A file that is missing is missed when it is read; one that cannot be opened must not be swept.
absl::Status HoldIfThere(const std::string& digest, const pretrained::PartStore& parts,
                         std::vector<pretrained::Part>& held) {
  absl::StatusOr<pretrained::Part> part = parts.Hold(digest);
  if (absl::IsNotFound(part.status())) return absl::OkStatus();
  if (!part.ok()) return part.status();
  held.push_back(*std::move(part));
  return absl::OkStatus();
}

absl::StatusOr<JobRunner::Restored> ReadJob(const store::StoredJob& stored,
                                            const pretrained::PartStore& parts) {
  JobRunner::Restored restored;
  if (!restored.record.ParseFromString(stored.record) ||
      !restored.progress.ParseFromString(stored.progress)) {
    return CorruptRecord(stored.job, "other bytes");
  }
  for (const store::StoredEvent& event : stored.events) {
    const auto expected = static_cast<int64_t>(restored.events.size()) + 1;
    if (event.sequence != expected ||
        !restored.events.emplace_back().ParseFromString(event.bytes)) {
      return CorruptRecord(stored.job, "no event " + std::to_string(expected));
    }
  }
  if (static_cast<int64_t>(restored.events.size()) != restored.progress.events()) {
    return CorruptRecord(stored.job, "other events than the " +
                                         std::to_string(restored.progress.events()) +
                                         " that were written");
  }
  const v1::Job::State job_state = restored.record.job().state();
  if (IsEnd(job_state) && job_state != v1::Job::STATE_FAILED) return restored;
  store::StateRecord state;
  if (!state.ParseFromString(stored.state))
    return CorruptRecord(stored.job, "a state of other bytes");
  restored.state = state.state();
  restored.state_file = state.file();
  restored.newest = state.newest();
  restored.newest_file = state.newest_file();
  for (const std::string& digest : state.files()) {
    ESPALIER_RETURN_IF_ERROR(HoldIfThere(digest, parts, restored.state_parts));
  }
  for (const store::StoredUpdate& update : stored.updates) {
    store::UpdateRecord record;
    if (!record.ParseFromString(update.bytes)) return CorruptRecord(stored.job, "other bytes");
    round::Upload upload{record.header(), BodyOf(record, parts), record.participant()};
    restored.updates.push_back({record.run(), std::move(upload)});
    if (!record.has_file()) continue;
    ESPALIER_RETURN_IF_ERROR(HoldIfThere(record.file(), parts, restored.update_parts));
  }
  return restored;
}

}  // namespace

absl::Status JobManager::Restore(store::Store& store) {
  ESPALIER_ASSIGN_OR_RETURN(const auto counted, store.CountedUpdates());
  for (const auto& [id, fingerprint] : counted) ledger_.Restore(id, fingerprint);
  std::vector<std::string> names;
  ESPALIER_RETURN_IF_ERROR(store.Jobs([this, &names](const store::StoredJob& stored) {
    store::AcceptedJob accepted;
    store::JobRecord record;
    if (!accepted.ParseFromString(stored.accepted) || !record.ParseFromString(stored.record)) {
      return CorruptRecord(stored.job, "other bytes");
    }
    const v1::Job::State state = record.job().state();
    index_.Add(stored.job, accepted.number(), accepted.spec(), state, accepted.owner(),
               accepted.request_id());
    feeds_.AddJob(stored.job, accepted.owner(), nullptr);
    const bool is_over = IsEnd(state) && state != v1::Job::STATE_FAILED;
    if (!is_over) names.push_back(stored.job);
    return absl::OkStatus();
  }));
  for (const std::string& name : names) {
    ESPALIER_ASSIGN_OR_RETURN(const store::StoredJob stored, store.Read(name));
    ESPALIER_RETURN_IF_ERROR(RestoreJob(stored));
  }
  if (index_.size() == 0) return absl::OkStatus();
  log::Info("jobs_restored", {{"jobs", index_.size()}, {"in_work", priced_.size()}});
  return absl::OkStatus();
}

absl::Status JobManager::RestoreJob(const store::StoredJob& stored) {
  const JobIndex::Entry& entry = *index_.Find(stored.job);
  if (!IsEnd(entry.state) && entry.state != v1::Job::STATE_PAUSED) {
    return GoOn(stored, PlanOfStored(stored, methods_), nullptr).status();
  }
  ESPALIER_ASSIGN_OR_RETURN(JobRunner::Restored restored,
                            ReadJob(stored, services_.journal.parts()));
  const auto runner =
      std::make_shared<JobRunner>(services_, std::move(restored), nullptr, nullptr, nullptr);
  if (IsEnd(entry.state)) {
    index_.Keep(stored.job, runner->Files());
  } else {
    Enter(runner, stored.job, nullptr);
  }
  return absl::OkStatus();
}

void JobManager::Read(const std::string& name, Found found) {
  const auto restored = std::make_shared<JobRunner::Restored>();
  services_.journal.Read(
      [restored, name, &parts = services_.journal.parts()](store::Store& store) -> absl::Status {
        ESPALIER_ASSIGN_OR_RETURN(const store::StoredJob stored, store.Read(name));
        ESPALIER_ASSIGN_OR_RETURN(*restored, ReadJob(stored, parts));
        return absl::OkStatus();
      },
      [this, name, restored, found = std::move(found)](const absl::Status& read) {
        // It may have been deleted, or go on, since it was asked for.
        if (Find(name) != nullptr || index_.Find(name) == nullptr) {
          With(name, found);
          return;
        }
        if (!read.ok()) {
          found(read);
          return;
        }
        const std::shared_ptr<const JobRunner> job =
            std::make_shared<JobRunner>(services_, std::move(*restored), nullptr, nullptr, nullptr);
        Remember(name, job);
        found(job);
      });
}

absl::StatusOr<JobPlan> PlanOfStored(const store::StoredJob& stored,
                                     const methods::MethodRegistry& methods) {
  store::AcceptedJob accepted;
  if (!accepted.ParseFromString(stored.accepted)) return CorruptRecord(stored.job, "other bytes");
  return PlanOf(accepted.spec(), methods);
}

absl::StatusOr<std::shared_ptr<JobRunner>> JobManager::GoOn(const store::StoredJob& stored,
                                                            absl::StatusOr<JobPlan> plan,
                                                            std::shared_ptr<events::EventLog> log) {
  store::AcceptedJob accepted;
  if (!accepted.ParseFromString(stored.accepted)) return CorruptRecord(stored.job, "other bytes");
  ESPALIER_ASSIGN_OR_RETURN(JobRunner::Restored restored,
                            ReadJob(stored, services_.journal.parts()));
  restored.log = std::move(log);
  v1::Job& job = *restored.record.mutable_job();
  if (job.name() != stored.job) return CorruptRecord(stored.job, "that of '" + job.name() + "'");
  if (IsEnd(job.state()) || job.state() == v1::Job::STATE_PAUSED) {
    job.set_state(job.has_start_time() ? v1::Job::STATE_RUNNING : v1::Job::STATE_PENDING);
    job.clear_failure_reason();
    job.clear_failure_message();
    job.clear_end_time();
  }
  const v1::JobSpec& spec = accepted.spec();
  // A job that this process cannot go on with, since it was started with other flags for instance,
  // is kept for one that can.
  if (!plan.ok()) {
    auto runner =
        std::make_shared<JobRunner>(services_, std::move(restored), nullptr, nullptr, nullptr);
    Enter(runner, stored.job, nullptr);
    runner->Hold(base::Annotate(plan.status(), "this coordinator cannot go on with it"));
    return runner;
  }
  plan->needs.job = TraitsOf(spec, accepted.owner());
  std::shared_ptr<datasets::JobView> view;
  if (!plan->needs.dataset.empty()) {
    const bool agreed = restored.record.agreed();
    view = services_.datasets.Follow(
        datasets::ViewOf(spec), *plan->needs.job,
        agreed ? JudgeOf(job.spec(), restored.record.data()) : datasets::FitJudge(spec), {});
    plan->needs.describe = [view](const v1::Worker& worker) {
      return view->Find(scheduler::WorkerId(worker));
    };
  }
  auto runner = std::make_shared<JobRunner>(services_, std::move(restored),
                                            services_.fleet.MakePool(std::move(plan->needs)), view,
                                            std::move(plan->program));
  const admission::Price price = admission::PriceOf(spec, plan->counts, accepted.workers());
  Enter(runner, stored.job, &price);
  admission_.Progress(stored.job, runner->round());
  return runner;
}

}  // namespace espalier::server::jobs
