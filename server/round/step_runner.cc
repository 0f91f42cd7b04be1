#include "server/round/step_runner.h"

#include <algorithm>
#include <new>
#include <utility>

#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/proto_time.h"
#include "server/admission/update_gate.h"
#include "server/scheduler/worker_words.h"

namespace espalier::server::round {
namespace {

// Below this many values a merge is quicker than handing it to another thread and back.
constexpr int64_t kInlineMergeValues = 65'536;
absl::Status OutOfMemory(const std::string& what) {
  return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                         "the coordinator ran out of memory while " + what +
                             "; use a smaller model or fewer participants, run fewer jobs at "
                             "once, or give it more memory");
}

std::string OthersToo(size_t failed_workers) {
  if (failed_workers < 2) return "";
  return " and " + std::to_string(failed_workers - 1) + " others";
}

}  // namespace

StepRunner::StepRunner(scheduler::Fleet& fleet, base::Executor& core, base::Executor& pool,
                       const base::Clock& clock, StepPlan plan, StepListener listener)
    : fleet_(fleet),
      core_(core),
      pool_(pool),
      clock_(clock),
      plan_(std::move(plan)),
      listener_(std::move(listener)),
      participants_(plan_.participants.size()) {
  for (size_t i = 0; i < plan_.participants.size(); ++i) by_name_[plan_.participants[i].name] = i;
}

void StepRunner::Start(std::vector<Upload> accepted) {
  last_tick_ = clock_.Elapsed();
  deadline_ = last_tick_ + wire::FromProto(plan_.federation.round_deadline());
  OpenGroup();
  starting_ = true;
  for (Upload& upload : accepted) Restore(std::move(upload));
  starting_ = false;
  CloseIfReady();
  if (ended()) return;
  for (size_t i = 0; i < participants_.size(); ++i) {
    if (participants_[i].state == State::kWaiting) fleet_.Queue(*group_, QueuedFor(i));
  }
  fleet_.Offer(*group_);
}

void StepRunner::Restore(Upload upload) {
  const auto it = by_name_.find(upload.participant);
  if (it == by_name_.end() || participants_[it->second].state != State::kWaiting) return;
  const size_t index = it->second;
  participants_[index].state = State::kMerging;
  participants_[index].leased_at = -absl::InfiniteDuration();
  ++merging_;
  Merge(index, std::move(upload), [this, index](const absl::Status& status) {
    --merging_;
    if (ended()) return;
    if (!status.ok()) {
      // It was good before, so what is wrong is how it was kept. The same comes when it is asked for
      // again.
      log::Warning("update_lost", {{"job", plan_.task.job()},
                                   {"participant", plan_.participants[index].name},
                                   {"reason", base::ReasonOf(status)},
                                   {"message", base::MessageOf(status)}});
      participants_[index].state = State::kWaiting;
      if (starting_) return;
      fleet_.Queue(*group_, QueuedFor(index));
      fleet_.Offer(*group_);
      return;
    }
    participants_[index].state = State::kDone;
    ++done_;
    CloseIfReady();
  });
}

void StepRunner::OpenGroup() {
  const auto self = weak_from_this();
  scheduler::TaskGroup group;
  group.job = plan_.task.job();
  group.owner = plan_.owner;
  group.pool = plan_.pool;
  // The fleet keeps the group only until the step ends; see WithdrawTasks().
  group.make_task = [this](size_t index) { return TaskFor(index); };
  group.find = [this](const std::string& name) -> std::optional<size_t> {
    const auto it = by_name_.find(name);
    return it == by_name_.end() ? std::nullopt : std::optional<size_t>(it->second);
  };
  group.on_leased = [this](size_t index, const v1::Task& task, const std::string& worker) {
    OnLeased(index, task, worker);
  };
  group.on_lost = [self](size_t index, const scheduler::TaskLoss& loss) {
    if (const auto step = self.lock()) step->OnLost(index, loss);
  };
  group_ = fleet_.Open(std::move(group));
}

StepRunner::~StepRunner() { WithdrawTasks("STEP_ENDED"); }

v1::Task StepRunner::TaskFor(size_t index) const {
  const ParticipantSpec& spec = plan_.participants[index];
  v1::Task task = plan_.task;
  task.set_participant(spec.name);
  task.set_shard(spec.shard);
  if (!spec.correction.digest().empty()) {
    v1::TrainAddition& addition =
        wire::MutableAddition(*task.mutable_train(), v1::TrainAddition::kCorrection);
    *addition.mutable_correction()->mutable_values() = spec.correction;
  }
  return task;
}

scheduler::QueuedTask StepRunner::QueuedFor(size_t index) const {
  const Participant& participant = participants_[index];
  return {.index = index,
          .only_worker = plan_.participants[index].only_worker,
          .not_workers = participant.failed_workers,
          .again = participant.losses > 0 || !participant.failed_workers.empty(),
          // Of a suspect those count that vanished with it alone: another one may bring certainty.
          .vanished_workers = participant.losses >= kLossesOfSuspect ? participant.ended_workers
                                                                     : participant.lost_workers};
}

void StepRunner::RequestTask(size_t index) {
  participants_[index].state = State::kWaiting;
  if (participants_[index].losses >= kLossesOfSuspect) {
    suspects_.push_back(index);
    return;
  }
  fleet_.Queue(*group_, QueuedFor(index));
  fleet_.Offer(*group_);
}

void StepRunner::OnLeased(size_t index, const v1::Task& task, const std::string& worker) {
  Participant& participant = participants_[index];
  ++leased_;
  if (careful_) {
    suspect_out_ = index;
    fleet_.SetWidth(*group_, static_cast<int>(leased_));
  }
  if (suspect_out_ == index && plan_.turn != nullptr) plan_.turn->holder = this;
  participant.state = State::kLeased;
  participant.task_id = task.task_id();
  participant.worker = worker;
  participant.leased_at = clock_.Elapsed();
  participant.assigned = clock_.Wall();
  participant.arrived = absl::InfinitePast();
  ++participant.attempts;
  participant.alone = suspect_out_ == index && (!careful_ || leased_ == 1);
  by_task_[task.task_id()] = index;
  if (listener_.on_sent) listener_.on_sent(task);
}

void StepRunner::OnLost(size_t index, const scheduler::TaskLoss& loss) {
  if (ended()) return;
  --leased_;
  by_task_.erase(participants_[index].task_id);
  if (suspect_out_ == index) EndTurn(/*lost=*/!loss.failed && !loss.excused);
  Report(index, loss);
  if (loss.excused) {
    RequestTask(index);
  } else if (loss.failed) {
    OnFailed(index, loss, /*refused=*/false);
  } else {
    OnVanished(index, loss);
  }
}

void StepRunner::Report(size_t index, const scheduler::TaskLoss& loss) {
  v1::TaskReassigned event;
  event.set_round(plan_.task.round());
  event.set_run(plan_.task.run());
  event.set_participant(plan_.participants[index].name);
  event.set_worker(loss.worker);
  event.set_reason(loss.reason);
  event.set_message(loss.message);
  NoteTrouble(index,
              loss.failed ? v1::ParticipantProgress::STATE_REJECTED
                          : v1::ParticipantProgress::STATE_EXPIRED,
              loss.reason, loss.message);
  if (listener_.on_reassigned) listener_.on_reassigned(event);
}

void StepRunner::OnFailed(size_t index, const scheduler::TaskLoss& loss, bool refused) {
  Participant& participant = participants_[index];
  participant.failed_workers.insert(loss.worker);
  if (loss.proven && !scheduler::IsUnfit(loss.reason)) {
    participant.proven_failures.insert(loss.worker);
  }
  const bool exhausted =
      static_cast<int>(participant.proven_failures.size()) > plan_.federation.max_retries() ||
      !HasEligibleWorker(index);
  if (!exhausted) {
    RequestTask(index);
    return;
  }
  const std::string& name = plan_.participants[index].name;
  if (refused) {
    ++refused_;
    LeaveOut(index, base::MakeError(absl::StatusCode::kFailedPrecondition, loss.reason,
                                    "every update of participant " + name +
                                        " was refused, the last one of worker " + loss.worker +
                                        ": " + loss.message));
  } else if (!plan_.participants[index].only_worker.empty()) {
    LeaveOut(index, base::MakeError(absl::StatusCode::kUnavailable, "QUORUM_LOST",
                                    "worker " + loss.worker + " reported: " + loss.message));
  } else {
    Fail(base::MakeError(absl::StatusCode::kFailedPrecondition, loss.reason,
                         "participant " + name + " failed on worker " + loss.worker +
                             OthersToo(participant.failed_workers.size()) + ": " + loss.message));
  }
}

void StepRunner::LeaveOut(size_t index, absl::Status because) {
  participants_[index].state = State::kLeftOut;
  ++left_out_;
  left_out_because_ = std::move(because);
  NoteTrouble(index, v1::ParticipantProgress::STATE_LEFT_OUT, base::ReasonOf(*left_out_because_),
              base::MessageOf(*left_out_because_));
  const auto possible = static_cast<int64_t>(participants_.size()) - left_out_;
  if (possible < Needed() &&
      plan_.federation.on_quorum_loss() != v1::Federation::QUORUM_POLICY_PROCEED) {
    Fail(QuorumLost());
    return;
  }
  CloseIfReady();
}

int64_t StepRunner::Needed() const {
  return std::max<int64_t>(1, plan_.needed - std::min(refused_, plan_.tolerated));
}

bool StepRunner::HasEligibleWorker(size_t index) const {
  return fleet_.CouldDo(*group_, QueuedFor(index));
}

std::optional<TaskInWork> StepRunner::InWork(const std::string& task_id) const {
  const auto it = by_task_.find(task_id);
  if (it == by_task_.end() || participants_[it->second].state != State::kLeased) {
    return std::nullopt;
  }
  return TaskInWork{plan_.task, plan_.participants[it->second].most_examples};
}

void StepRunner::Accept(Upload upload, std::function<void(absl::Status)> done) {
  if (!InWork(upload.header.task_id()).has_value()) {
    done(RoundClosed());
    return;
  }
  const size_t index = by_task_.at(upload.header.task_id());
  participants_[index].state = State::kMerging;
  participants_[index].arrived = clock_.Wall();
  --leased_;
  ++merging_;
  // The worker has done its part: it may take its next task while its numbers are merged.
  fleet_.Complete(upload.header.task_id());
  const auto header = std::make_shared<const v1::PartialHeader>(upload.header);
  Merge(index, std::move(upload),
        [this, index, header, done = std::move(done)](const absl::Status& status) {
          OnMerged(index, *header, status, done);
        });
}

void StepRunner::Merge(size_t index, Upload upload, Merged merged) {
  auto header = std::make_shared<v1::PartialHeader>(upload.header);
  auto partial = std::make_shared<reduce::Partial>();
  partial->participant = plan_.participants[index].name;
  partial->examples = header->examples();
  partial->loss_sum = header->loss_sum();
  partial->correct = header->correct();
  partial->steps = header->steps();
  partial->peak_memory_bytes = header->peak_memory_bytes();
  partial->compute_seconds =
      admission::SecondsSpent(*header, clock_.Elapsed() - participants_[index].leased_at);
  for (const v1::Metric& metric : header->metric_sums()) {
    partial->metric_sums[metric.name()] = metric.value();
  }
  const auto self = shared_from_this();
  const auto merge = [self, partial, upload = std::move(upload)]() -> absl::Status {
    try {
      return admission::CheckBodyAndMerge(
          self->plan_.task, *self->plan_.topology,
          self->plan_.start == nullptr ? std::span<const float>() : *self->plan_.start, upload,
          *partial, *self->plan_.reducer);
    } catch (const std::bad_alloc&) {
      return OutOfMemory("merging an update");
    }
  };
  if (header->body_bytes() <= kInlineMergeValues * sizeof(float) && merges_.empty()) {
    merged(merge());
    return;
  }
  merges_.emplace_back([self, merge, merged = std::move(merged)] {
    self->pool_.Post([self, merge, merged] {
      const absl::Status status = merge();
      self->core_.Post([self, status, merged] {
        self->merges_.pop_front();
        merged(status);
        if (!self->merges_.empty()) self->merges_.front()();
      });
    });
  });
  if (merges_.size() == 1) merges_.front()();
}

void StepRunner::OnMerged(size_t index, const v1::PartialHeader& header, const absl::Status& status,
                          const std::function<void(absl::Status)>& done) {
  Participant& participant = participants_[index];
  --merging_;
  by_task_.erase(header.task_id());
  done(status);
  if (ended()) return;
  if (suspect_out_ == index) EndTurn(/*lost=*/false);
  fleet_.CountResult(*group_, participant.worker, status.ok());
  if (status.ok()) {
    participant.state = State::kDone;
    participant.counted = clock_.Wall();
    ++done_;
    OnProgress();
    CloseIfReady();
    return;
  }
  if (base::ReasonOf(status) == "OUT_OF_MEMORY") {
    Fail(status);
    return;
  }
  v1::UpdateRejected event;
  event.set_round(plan_.task.round());
  event.set_run(plan_.task.run());
  event.set_participant(plan_.participants[index].name);
  event.set_worker(participant.worker);
  event.set_reason(base::ReasonOf(status));
  event.set_message(base::MessageOf(status));
  if (listener_.on_rejected) listener_.on_rejected(event);
  const v1::Worker* worker = fleet_.Find(participant.worker);
  const bool proven = worker != nullptr && worker->tasks_completed() > 0;
  const scheduler::TaskLoss loss{true, participant.worker, proven, event.reason(), event.message()};
  Report(index, loss);
  OnFailed(index, loss, /*refused=*/true);
}

void StepRunner::Tick() {
  if (ended()) return;
  const absl::Duration now = clock_.Elapsed();
  JudgeLosses();
  if (ended()) return;
  TrySuspects();
  const bool in_work = leased_ > 0 || merging_ > 0;
  waiting_for_workers_ = !in_work && !fleet_.HasWorkerFor(*group_) &&
                         std::none_of(suspects_.begin(), suspects_.end(),
                                      [this](size_t index) { return HasEligibleWorker(index); });
  held_by_quota_ = in_work ? std::nullopt : fleet_.HeldByQuota(*group_);
  const bool nobody = waiting_for_workers_ && plan_.pool->able().empty() &&
                      done_ + left_out_ < static_cast<int64_t>(participants_.size());
  if (nobody || held_by_quota_.has_value()) deadline_ += now - last_tick_;
  last_tick_ = now;
  if (now >= deadline_) OnDeadline();
}

void StepRunner::CloseIfReady() {
  if (ended() || starting_ || merging_ > 0) return;
  const bool resolved = done_ + left_out_ == static_cast<int64_t>(participants_.size());
  if (!resolved) return;
  const bool proceed =
      plan_.federation.on_quorum_loss() == v1::Federation::QUORUM_POLICY_PROCEED && done_ > 0;
  if (done_ < Needed() && proceed) ReportQuorumMissed("proceed");
  if (done_ >= Needed() || proceed) {
    Close();
  } else {
    Fail(QuorumLost());
  }
}

absl::Status StepRunner::QuorumLost() const {
  const std::string reason = left_out_because_.has_value()
                                 ? std::string(base::ReasonOf(*left_out_because_))
                                 : "QUORUM_LOST";
  std::string because;
  if (left_out_because_.has_value()) because = "; " + base::MessageOf(*left_out_because_);
  return base::MakeError(absl::StatusCode::kUnavailable, reason,
                         "expected updates from " + std::to_string(Needed()) + " participants in " +
                             RoundText() + ", found " + std::to_string(done_) + ", with " +
                             std::to_string(left_out_) + " left out" + because +
                             "; see the job's events, lower federation.quorum or add workers");
}

void StepRunner::ReportQuorumMissed(const std::string& decision) {
  v1::QuorumMissed event;
  event.set_round(plan_.task.round());
  event.set_run(plan_.task.run());
  event.set_arrived(done_);
  event.set_needed(Needed());
  event.set_decision(decision);
  if (listener_.on_quorum_missed) listener_.on_quorum_missed(event);
}

void StepRunner::OnDeadline() {
  // What arrived in time counts, but only its merge tells whether it is good.
  if (merging_ > 0) return;
  const v1::Federation& federation = plan_.federation;
  const bool quorum = done_ >= Needed();
  const bool proceed =
      federation.on_quorum_loss() == v1::Federation::QUORUM_POLICY_PROCEED && done_ > 0;
  if (quorum || proceed) {
    if (!quorum) ReportQuorumMissed("proceed");
    Close();
    return;
  }
  const bool extend = federation.on_quorum_loss() != v1::Federation::QUORUM_POLICY_FAIL &&
                      extensions_ < federation.max_extensions();
  ReportQuorumMissed(extend ? "extend" : "fail");
  if (extend) {
    ++extensions_;
    deadline_ = clock_.Elapsed() + wire::FromProto(federation.round_deadline());
    return;
  }
  Fail(base::MakeError(absl::StatusCode::kDeadlineExceeded, "QUORUM_LOST",
                       "expected " + std::to_string(Needed()) + " updates in round " +
                           std::to_string(plan_.task.round()) + " before its deadline, found " +
                           std::to_string(done_) +
                           "; raise federation.round_deadline, lower federation.quorum or add "
                           "workers"));
}

absl::StatusOr<reduce::Reduced> StepRunner::FinishReducer() {
  try {
    plan_.reducer->Refused(std::min(refused_, plan_.tolerated));
    return plan_.reducer->Finish();
  } catch (const std::bad_alloc&) {
    return OutOfMemory("reducing the updates of a round");
  }
}

void StepRunner::Close() {
  finished_ = true;
  WithdrawTasks("ROUND_CLOSED");
  const auto self = shared_from_this();
  if (ValuesCount(plan_.task.sections()) <= kInlineMergeValues) {
    listener_.on_finished(FinishReducer());
    return;
  }
  pool_.Post([self] {
    auto result = std::make_shared<absl::StatusOr<reduce::Reduced>>(self->FinishReducer());
    self->core_.Post([self, result] {
      if (!self->aborted_) self->listener_.on_finished(std::move(*result));
    });
  });
}

void StepRunner::Abort(const std::string& reason) {
  aborted_ = true;
  WithdrawTasks(reason);
}

void StepRunner::Stop() {
  if (group_.has_value()) fleet_.SetWidth(*group_, 0);
}

void StepRunner::WithdrawTasks(const std::string& reason) {
  if (!group_.has_value()) return;
  by_task_.clear();
  suspects_.clear();
  EndTurn(/*lost=*/false);
  fleet_.Close(*std::exchange(group_, std::nullopt), reason);
}

void StepRunner::Fail(const absl::Status& status) {
  aborted_ = finished_ = true;
  // The job stops the steps beside this one first: a worker that is free again must not be given
  // one of their tasks.
  const auto self = shared_from_this();
  Stop();
  listener_.on_finished(status);
  WithdrawTasks("STEP_FAILED");
}

}  // namespace espalier::server::round
