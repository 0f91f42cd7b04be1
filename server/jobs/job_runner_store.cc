// What of a job is kept in the store, and how a job goes on that another process had in work.
#include <algorithm>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/jobs/durable/run_record.h"
#include "server/jobs/job_runner.h"
#include "server/jobs/update_ledger.h"
#include "server/methods/program_state_codec.h"

namespace espalier::server::jobs {
namespace {

absl::StatusOr<store::StoredUpdate> StoreUpdate(const JobRunner::CountedUpdate& update,
                                                pretrained::PartStore& parts,
                                                std::vector<pretrained::Part>& used) {
  const round::Upload& upload = update.upload;
  store::UpdateRecord record;
  record.set_run(update.run);
  record.set_participant(upload.participant);
  *record.mutable_header() = upload.header;
  // What other versions, or nobody, know of is of no use to the next process.
  record.mutable_header()->DiscardUnknownFields();
  const uint64_t size = upload.header.body_bytes();
  if (size <= base::Limits().spool_threshold_bytes) {
    std::string& bytes = *record.mutable_bytes();
    ESPALIER_RETURN_IF_ERROR(upload.body(0, size, [&bytes](std::string_view piece) {
      bytes.append(piece);
      return absl::OkStatus();
    }));
  } else {
    const std::string& digest = upload.header.body_sha256();
    ESPALIER_ASSIGN_OR_RETURN(
        pretrained::Part part,
        parts.PutPieces(digest, [&upload, size](const pretrained::PartStore::Sink& sink) {
          return upload.body(0, size, sink);
        }));
    record.set_file(digest);
    used.push_back(std::move(part));
  }
  return store::StoredUpdate{upload.header.update_id(), UpdateLedger::Fingerprint(upload.header),
                             record.SerializeAsString()};
}

// Saves a state in `bytes`, or in the `file` of a part where it is long. `used` gets its parts.
absl::Status SaveState(const methods::ProgramState& state, pretrained::PartStore& parts,
                       std::vector<pretrained::Part>& used, std::string& bytes, std::string& file) {
  constexpr size_t kLongState = size_t{1024} * 1024;
  ESPALIER_ASSIGN_OR_RETURN(methods::SavedState saved, methods::SaveProgramState(state, &parts));
  std::ranges::move(saved.parts, std::back_inserter(used));
  if (saved.bytes.size() < kLongState) {
    bytes = std::move(saved.bytes);
    return absl::OkStatus();
  }
  ESPALIER_ASSIGN_OR_RETURN(pretrained::Part part, parts.Put(saved.bytes));
  file = part.digest;
  used.push_back(std::move(part));
  return absl::OkStatus();
}

absl::StatusOr<std::string> StoreState(const methods::ProgramState& state,
                                       const NewestModels& newest, pretrained::PartStore& parts,
                                       std::vector<pretrained::Part>& used) {
  store::StateRecord record;
  used.clear();
  ESPALIER_RETURN_IF_ERROR(
      SaveState(state, parts, used, *record.mutable_state(), *record.mutable_file()));
  if (!newest.empty()) {
    ESPALIER_RETURN_IF_ERROR(SaveState(newest.ToState(), parts, used, *record.mutable_newest(),
                                       *record.mutable_newest_file()));
  }
  for (const pretrained::Part& part : used) record.add_files(part.digest);
  return record.SerializeAsString();
}

// What SaveState() saved. `used` gets its parts.
absl::StatusOr<methods::ProgramState> LoadState(
    const std::string& bytes, const std::string& file,
    const std::shared_ptr<const tensor::ModelLayout>& layout, const pretrained::PartStore& parts,
    std::vector<pretrained::Part>& used) {
  pretrained::Part part;
  if (!file.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(part, parts.Find(file));
  }
  std::vector<pretrained::Part> of_state;
  ESPALIER_ASSIGN_OR_RETURN(
      methods::ProgramState state,
      methods::DecodeProgramState(file.empty() ? std::string_view(bytes) : part.bytes(), layout,
                                  &parts, &of_state));
  std::ranges::move(of_state, std::back_inserter(used));
  if (!file.empty()) used.push_back(std::move(part));
  return state;
}

}  // namespace

struct JobRunner::Written {
  bool new_step = false;
  std::shared_ptr<std::vector<pretrained::Part>> state_parts =
      std::make_shared<std::vector<pretrained::Part>>();
  std::vector<pretrained::Part> update_parts;
  int64_t events = 0;
  size_t updates = 0;  // looked at so far
};

JobRunner::JobRunner(Services services, Restored restored,
                     std::shared_ptr<scheduler::WorkerPool> pool,
                     std::shared_ptr<datasets::JobView> view,
                     std::unique_ptr<methods::Program> program)
    : services_(services),
      job_(std::move(*restored.record.mutable_job())),
      pool_(std::move(pool)),
      view_(std::move(view)),
      has_data_(view_ != nullptr || restored.record.agreed()),
      agreed_(restored.record.agreed() || view_ == nullptr),
      program_(std::move(program)),
      events_(restored.log == nullptr ? std::make_shared<events::EventLog>() : restored.log),
      owners_(restored.record.owners().begin(), restored.record.owners().end()),
      data_(restored.record.data()),
      events_taken_(static_cast<int64_t>(restored.events.size())) {
  rounds_.Restore(restored.events, job_.spec().evaluation().main_metric());
  if (restored.log == nullptr) events_->Restore(restored.events);
  if (ended()) events_->Close();
  state_parts_ = std::make_shared<std::vector<pretrained::Part>>(std::move(restored.state_parts));
  update_parts_ = std::move(restored.update_parts);
  if (!ended()) source_ = services_.checkpoints.Use(job_.spec().model().pretrained());
  if (at_rest()) {
    parked_ = !is_over();
    *progress_ = std::move(restored.progress);
    return;
  }
  if (program_ != nullptr && program_->asks_planner()) {
    planner_ = std::make_shared<PlannerSeat>(services_.clock, base::Limits().planner_lease);
  }
  if (job_.state() == v1::Job::STATE_PENDING) return;
  for (const store::RunRecord& run : restored.progress.runs()) {
    branches_.push_back(BranchOf(run, job_.name(), services_.clock.Elapsed()));
  }
  saved_state_ = std::move(restored.state);
  saved_state_file_ = std::move(restored.state_file);
  saved_newest_ = std::move(restored.newest);
  saved_newest_file_ = std::move(restored.newest_file);
  accepted_before_ = std::move(restored.updates);
}

void JobRunner::KeepAs(std::string accepted) {
  accepted_ = std::move(accepted);
  Touch();
}

store::JobRecord JobRunner::RecordNow() const {
  store::JobRecord record;
  *record.mutable_job() = job_;
  record.mutable_job()->clear_conditions();
  record.set_agreed(agreed_ && has_data_);
  *record.mutable_data() = data_;
  record.mutable_owners()->insert(owners_.begin(), owners_.end());
  return record;
}

store::ProgressRecord JobRunner::ProgressNow() const {
  if (parked_) return *progress_;
  store::ProgressRecord progress;
  const absl::Duration now = services_.clock.Elapsed();
  for (const auto& branch : branches_) *progress.add_runs() = RecordOf(*branch, now);
  return progress;
}

std::shared_ptr<void> JobRunner::Files() const {
  return std::make_shared<std::pair<std::vector<pretrained::Part>, std::vector<pretrained::Part>>>(
      state_parts_ == nullptr ? std::vector<pretrained::Part>() : *state_parts_, update_parts_);
}

Journal::Change JobRunner::TakeChange() {
  Journal::Change change;
  change.write.job = job_.name();
  change.write.accepted = std::exchange(accepted_, std::nullopt);
  if (std::string record = RecordNow().SerializeAsString(); record != written_record_) {
    change.write.record = written_record_ = std::move(record);
  }
  while (const auto event = events_->AfterOfAll(events_taken_)) {
    events_taken_ = event->sequence();
    change.write.events.push_back({event->sequence(), event->SerializeAsString()});
  }
  store::ProgressRecord progress = is_over() ? store::ProgressRecord() : ProgressNow();
  progress.set_events(events_taken_);
  change.write.progress = progress.SerializeAsString();
  const auto written = std::make_shared<Written>();
  written->events = events_taken_;
  // Nothing of a job that has ended is needed any more.
  written->new_step = change.write.new_step = std::exchange(state_changed_, false) || is_over();
  const auto state = written->new_step ? state_ : nullptr;
  const auto counted =
      std::make_shared<const std::vector<CountedUpdate>>(std::exchange(counted_, {}));
  if (state != nullptr && (is_over() || StepsInWork(*state).empty())) change.write.state = "";
  change.write.counted_before = std::exchange(counted_before_, {});
  change.complete = [&parts = services_.journal.parts(), state, newest = newest_, counted,
                     written](store::JobWrite& write) -> absl::Status {
    if (state != nullptr && !write.state.has_value()) {
      ESPALIER_ASSIGN_OR_RETURN(write.state,
                                StoreState(*state, newest, parts, *written->state_parts));
    }
    for (; written->updates < counted->size(); ++written->updates) {
      const CountedUpdate& update = (*counted)[written->updates];
      auto stored = StoreUpdate(update, parts, written->update_parts);
      if (stored.ok()) {
        write.updates.push_back(*std::move(stored));
      } else if (IsOfTheDisk(stored.status())) {
        return stored.status();
      } else {
        // It counts here; another process would ask for it again.
        log::Warning("update_not_kept", {{"job", write.job},
                                         {"participant", update.upload.participant},
                                         {"message", base::MessageOf(stored.status())}});
      }
    }
    return absl::OkStatus();
  };
  change.written = [self = shared_from_this(), written] { self->OnWritten(*written); };
  return change;
}

void JobRunner::OnWritten(const Written& written) {
  // Files that nothing names any more are removed on the pool.
  std::vector<pretrained::Part> updates;
  std::shared_ptr<std::vector<pretrained::Part>> state;
  if (written.new_step) {
    updates = std::exchange(update_parts_, {});
    state = std::exchange(state_parts_, written.state_parts);
  }
  update_parts_.insert(update_parts_.end(), written.update_parts.begin(),
                       written.update_parts.end());
  if (state != nullptr || !updates.empty()) {
    services_.pool.Post([state = std::move(state), updates = std::move(updates)] {});
  }
  events_->Show(written.events);
  LetGo();
}

void JobRunner::Resume() {
  const std::string& bytes = *saved_state_;
  log::Info("job_goes_on",
            {{"job", job_.name()}, {"round", job_.round()}, {"updates", accepted_before_.size()}});
  const auto program = program_;
  if (bytes.empty() && saved_state_file_.empty()) {
    saved_state_.reset();
    Advance([program] { return program->Start(); }, true, true);
    return;
  }
  resuming_ = true;
  Advance([self = shared_from_this()] { return self->LoadTransition(); }, true);
}

absl::StatusOr<methods::Transition> JobRunner::LoadTransition() const {
  const pretrained::PartStore& parts = services_.journal.parts();
  std::vector<pretrained::Part> used;
  methods::Transition transition;
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(job_.spec().model()));
  ESPALIER_ASSIGN_OR_RETURN(transition.state,
                            LoadState(*saved_state_, saved_state_file_, layout, parts, used));
  if (!saved_newest_.empty() || !saved_newest_file_.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(methods::ProgramState newest,
                              LoadState(saved_newest_, saved_newest_file_, layout, parts, used));
    *loaded_newest_ = NewestModels::FromState(std::move(newest));
  }
  *state_parts_ = std::move(used);
  return transition;
}

std::vector<round::Upload> JobRunner::TakeAccepted(const std::string& run) {
  std::vector<round::Upload> uploads;
  for (CountedUpdate& update : accepted_before_) {
    if (update.run == run) uploads.push_back(std::move(update.upload));
  }
  std::erase_if(accepted_before_, [&run](const auto& update) { return update.run == run; });
  return uploads;
}

}  // namespace espalier::server::jobs
