// The states of a job, from PENDING to its end, and why it does not move.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/proto_time.h"
#include "server/jobs/job_runner.h"
#include "server/jobs/listing/job_index.h"

namespace espalier::server::jobs {

using metrics::Metric;

absl::Status JobHasEnded(const std::string& job, v1::Job::State state, const std::string& what) {
  return base::FailedPrecondition("JOB_ENDED", "expected a job that has not ended, found " +
                                                   v1::Job::State_Name(state).substr(6) + " (" +
                                                   job + "); nothing to " + what);
}

bool JobRunner::ended() const { return IsEnd(job_.state()); }

std::string JobRunner::condition() const {
  return job_.conditions_size() == 0 ? "" : job_.conditions(0).type();
}

bool JobRunner::at_rest() const { return ended() || job_.state() == v1::Job::STATE_PAUSED; }

void JobRunner::SetState(v1::Job::State state, const std::string& reason,
                         const std::string& message) {
  job_.set_state(state);
  last_progress_ = services_.clock.Wall();
  if (state == v1::Job::STATE_FAILED) {
    job_.set_failure_reason(reason);
    job_.set_failure_message(message);
  }
  if (state == v1::Job::STATE_RUNNING && !job_.has_start_time()) {
    wire::SetTimestamp(services_.clock.Wall(), job_.mutable_start_time());
  }
  if (IsEnd(state)) {
    wire::SetTimestamp(services_.clock.Wall(), job_.mutable_end_time());
  }
  if (at_rest()) job_.clear_conditions();
  v1::JobEvent event = NewEvent();
  event.mutable_state_changed()->set_state(state);
  event.mutable_state_changed()->set_reason(reason);
  event.mutable_state_changed()->set_message(message);
  // The last event is shown together with the end of the log.
  if (IsEnd(state)) events_->Close();
  if (IsEnd(state) && !preparing_ && !parked_) source_ = nullptr;
  Emit(std::move(event));
  log::Info("job_state_changed", {{"job", job_.name()},
                                  {"state", v1::Job::State_Name(state)},
                                  {"reason", reason},
                                  {"message", message}});
  if (at_rest() && planner_ != nullptr) planner_->Close();
}

void JobRunner::SetWaiting(const std::string& message) { SetCondition(kWaitingWorkers, message); }

void JobRunner::SetCondition(const std::string& type, const std::string& message) {
  if (message.empty()) {
    job_.clear_conditions();
    return;
  }
  if (job_.conditions_size() == 0 || job_.conditions(0).type() != type) {
    job_.clear_conditions();
    wire::SetTimestamp(services_.clock.Wall(), job_.add_conditions()->mutable_since());
    log::Warning("job_waits", {{"job", job_.name()}, {"condition", type}, {"message", message}});
  }
  job_.mutable_conditions(0)->set_type(type);
  job_.mutable_conditions(0)->set_message(message);
}

bool JobRunner::WaitsForStorage() {
  const auto& trouble = services_.journal.trouble();
  if (!trouble.has_value()) return false;
  SetCondition(kWaitingStorage,
               "what happens cannot be written down: " + base::MessageOf(*trouble) +
                   "; it is tried again, and the job goes on when it can be");
  return true;
}

void JobRunner::Hold(const absl::Status& why) {
  program_ = nullptr;
  resuming_ = false;
  SetCondition("CANNOT_GO_ON", base::MessageOf(why));
}

void JobRunner::AbortSteps(const std::string& reason) {
  // A worker that is free again must not be given a task of the next step that ends.
  for (const auto& branch : branches_) {
    if (branch->step != nullptr) branch->step->Stop();
  }
  for (const auto& branch : branches_) {
    if (branch->step != nullptr) branch->step->Abort(reason);
  }
}

absl::Status JobRunner::Cancel() {
  if (ended()) return JobHasEnded(job_.name(), job_.state(), "cancel");
  SetState(v1::Job::STATE_CANCELLING, "", "");
  EndRounds("aborted");
  AbortSteps("JOB_CANCELLED");
  parked_ = false;
  // The pool may be reading the models; then Apply() lets go of them.
  if (!preparing_) ReleaseModel();
  SetState(v1::Job::STATE_CANCELLED, "", "");
  return absl::OkStatus();
}

absl::Status JobRunner::Pause() {
  if (ended()) return JobHasEnded(job_.name(), job_.state(), "pause");
  if (failing_) return JobHasEnded(job_.name(), v1::Job::STATE_FAILED, "pause");
  if (at_rest()) {
    return base::FailedPrecondition(
        "JOB_PAUSED", "expected a job that is not PAUSED yet, found " + job_.name() + ", which is");
  }
  Park("JOB_PAUSED");
  SetState(v1::Job::STATE_PAUSED, "", "");
  return absl::OkStatus();
}

void JobRunner::GoOn() { SetState(job_.state(), "", ""); }

void JobRunner::WhenStill(std::function<void()> then) {
  if (!still()) {
    when_still_.push_back(std::move(then));
  } else {
    then();
  }
}

void JobRunner::Forget() { forgotten_ = true; }

void JobRunner::Dismiss() {
  forgotten_ = true;
  events_->Close();
  events_->Show(events_->last_sequence());
}

void JobRunner::Park(const std::string& reason) {
  store::ProgressRecord progress = ProgressNow();
  AbortSteps(reason);
  if (!services_.journal.keeps()) {
    ReleaseModel();
    return;
  }
  *progress_ = std::move(progress);
  parked_ = true;
  for (const auto& branch : branches_) branch->step = nullptr;
  stalled_ = false;
  next_again_ = false;
  held_back_ = nullptr;
  view_ = nullptr;
  pool_ = nullptr;
  Touch();
}

void JobRunner::Fail(const absl::Status& status) {
  if (failing_) return;
  EndRounds(base::ReasonOf(status) == "QUORUM_LOST" ? "quorum_lost" : "aborted");
  const std::vector<NewestModels::Model> newest = WithoutCheckpoint(newest_);
  Park("JOB_FAILED");
  if (newest.empty()) {
    EndAsFailed(status, "");
    return;
  }
  services_.files.Post([self = shared_from_this(), newest, status] {
    const auto kept = std::make_shared<const KeptNewest>(self->KeepNewest(newest));
    self->services_.core.Post(
        [self, kept, status] { self->Guard([&] { self->OnNewestKept(*kept, status); }); });
  });
  failing_ = true;
  SetCondition(kWaitingStorage, "the job fails (" + base::ReasonOf(status) +
                                    "), once its newest model is written as a checkpoint");
}

std::vector<NewestModels::Model> JobRunner::WithoutCheckpoint(const NewestModels& newest) const {
  std::set<std::string> noted = {job_.latest_checkpoint()};
  for (const v1::Run& run : job_.runs()) noted.insert(run.latest_checkpoint());
  std::vector<NewestModels::Model> models;
  for (const auto& [run, model] : newest.models()) {
    const std::string name = "checkpoints/" + job_.name().substr(sizeof("jobs/") - 1) + "-" +
                             std::to_string(model.outcome.committed->round());
    const bool is_there = noted.contains(name) && services_.checkpoints.Get(name).ok();
    if (!is_there) models.push_back(model);
  }
  std::ranges::sort(models, {}, [](const auto& model) { return model.outcome.committed->round(); });
  return models;
}

void JobRunner::OnNewestKept(const KeptNewest& newest, const absl::Status& status) {
  failing_ = false;
  newest_ = {};
  if (still()) {
    for (const auto& then : std::exchange(when_still_, {})) services_.core.Post(then);
  }
  if (base::ReasonOf(newest.status) == "SYNC_FAILED") services_.journal.Fatal(newest.status);
  if (ended()) return;
  for (const Kept& one : newest.kept) {
    const checkpoint::CheckpointInfo& checkpoint = *one.checkpoint;
    for (v1::Run& run : *job_.mutable_runs()) {
      if (run.name() == checkpoint.run) run.set_latest_checkpoint(checkpoint.name);
    }
    NoteCheckpoint(checkpoint, one.checkpoint_seconds);
  }
  if (newest.status.ok()) {
    EndAsFailed(status, "");
    return;
  }
  services_.metrics.Add(Metric::kCheckpointFailures);
  EndAsFailed(status, "; its newest model could not be written as a checkpoint: " +
                          base::MessageOf(newest.status));
}

void JobRunner::EndAsFailed(const absl::Status& status, const std::string& more) {
  SetState(v1::Job::STATE_FAILED, base::ReasonOf(status), base::MessageOf(status) + more);
  services_.metrics.Add(Metric::kJobFailures, 1, absl::AsciiStrToLower(base::ReasonOf(status)));
}

void JobRunner::EndRounds(const char* outcome) {
  for (const auto& branch : branches_) {
    if (!std::exchange(branch->round_is_open, false)) continue;
    services_.metrics.Add(Metric::kRounds, 1, outcome);
    if (branch->step != nullptr) branch->step->Describe(branch->progress);
    KeepProgress(*branch);
  }
}

void JobRunner::EnterPhase(Branch& branch, const std::string& phase) const {
  branch.progress.set_phase(phase);
  branch.progress.clear_deadline();
  wire::SetTimestamp(services_.clock.Wall(), branch.progress.mutable_phase_start_time());
}

void JobRunner::KeepProgress(Branch& branch) const {
  v1::RoundProgress ended = branch.progress;
  ended.clear_deadline();
  wire::SetTimestamp(services_.clock.Wall(), ended.mutable_end_time());
  services_.rounds->Keep(std::move(ended));
}

std::optional<v1::RoundProgress> JobRunner::RoundInWork(int32_t round,
                                                        const std::string& run) const {
  if (at_rest()) return std::nullopt;
  for (const auto& branch : branches_) {
    const bool is_asked_for =
        (round == 0 || branch->progress.round() == round) && (run.empty() || branch->run == run);
    const bool has_begun = branch->progress.has_start_time();
    if (!is_asked_for || !has_begun) continue;
    // Between two rounds: that of before is remembered with its end.
    if (!branch->round_is_open && branch->announced_round > 0) continue;
    v1::RoundProgress progress = branch->progress;
    if (branch->step != nullptr) branch->step->Describe(progress);
    return progress;
  }
  return std::nullopt;
}

void JobRunner::LogRound(const v1::RoundSummary& summary) {
  const bool last = summary.round() == job_.total_rounds();
  const bool now = round_log_.Take(services_.clock.Elapsed()).has_value();
  const auto metric = summary.has_main_metric() ? fmt::format("{:.6g}", summary.main_metric()) : "";
  const auto loss = summary.has_train_loss() ? fmt::format("{:.6g}", summary.train_loss()) : "";
  (last || now ? log::Info : log::Debug)(
      "round_committed",
      {{"job", job_.name()},
       {"round", summary.round()},
       {"rounds", job_.total_rounds()},
       {"run", summary.run()},
       {"participants", summary.participants()},
       {"train_loss", loss},
       {"metric", metric},
       {"density", fmt::format("{:.6g}", summary.density())},
       {"seconds",
        fmt::format("{:.3f}", absl::ToDoubleSeconds(wire::FromProto(summary.duration())))}});
}

// The record of a job stays for long; its models need not.
void JobRunner::ReleaseModel() {
  stalled_ = false;
  state_changed_ = true;
  counted_.clear();
  held_back_ = nullptr;
  next_again_ = false;
  ReleaseMemory();
  Touch();
  // New workers need not describe what nobody will train on any more.
  view_ = nullptr;
  pool_ = nullptr;
}

bool JobRunner::holds_models() const {
  return !at_rest() || preparing_ || (parked_ && (state_changed_ || !counted_.empty()));
}

void JobRunner::LetGo() {
  if (parked_ && !holds_models()) ReleaseMemory();
}

void JobRunner::ReleaseMemory() {
  state_ = std::make_shared<const methods::ProgramState>();
  branches_.clear();
  saved_state_.reset();
  next_ = nullptr;
  newest_ = {};
  saved_newest_.clear();
  accepted_before_.clear();
  // A job that goes on may look at it again.
  if (ended()) source_ = nullptr;
}

}  // namespace espalier::server::jobs
