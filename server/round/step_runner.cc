#include "server/round/step_runner.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/wire/proto_time.h"
#include "server/round/extras.h"

namespace espalier::server::round {
namespace {

// Below this many values a merge is quicker than handing it to another thread and back.
constexpr int64_t kInlineMergeValues = 65'536;

}  // namespace

StepRunner::StepRunner(scheduler::Fleet& fleet, base::Executor& core, base::Executor& pool,
                       const base::Clock& clock, StepPlan plan, StepListener listener)
    : fleet_(fleet),
      core_(core),
      pool_(pool),
      clock_(clock),
      plan_(std::move(plan)),
      listener_(std::move(listener)) {
  for (const ParticipantSpec& spec : plan_.participants) {
    participants_.emplace_back();
    participants_.back().spec = spec;
  }
}

void StepRunner::Start() {
  last_tick_ = clock_.Elapsed();
  deadline_ = last_tick_ + wire::FromProto(plan_.federation.round_deadline());
  for (size_t i = 0; i < participants_.size(); ++i) RequestTask(i);
}

v1::Task StepRunner::TaskFor(const Participant& participant) const {
  v1::Task task = plan_.task;
  task.set_participant(participant.spec.name);
  task.set_shard(participant.spec.shard);
  if (!participant.spec.correction.digest().empty()) {
    *task.mutable_train()->mutable_correction() = participant.spec.correction;
  }
  return task;
}

void StepRunner::RequestTask(size_t index) {
  Participant& participant = participants_[index];
  participant.state = State::kWaiting;
  scheduler::TaskRequest request;
  request.task = TaskFor(participant);
  request.only_worker = participant.spec.only_worker;
  request.not_workers = participant.failed_workers;
  request.needs = plan_.needs;
  const auto self = weak_from_this();
  request.on_leased = [self, index](const std::string& worker) {
    if (const auto step = self.lock()) {
      Participant& leased = step->participants_[index];
      leased.state = State::kLeased;
      leased.worker = worker;
      leased.leased_at = step->clock_.Elapsed();
      if (step->listener_.on_sent) step->listener_.on_sent(step->TaskFor(leased));
    }
  };
  request.on_lost = [self, index](const scheduler::TaskLoss& loss) {
    if (const auto step = self.lock()) step->OnLost(index, loss);
  };
  const std::string id = fleet_.Request(std::move(request));
  participant.task_id = id;
  by_task_[id] = index;
}

void StepRunner::OnLost(size_t index, const scheduler::TaskLoss& loss) {
  if (ended()) return;
  Participant& participant = participants_[index];
  // A worker that dies while its finished upload is being merged has done its part.
  if (participant.state == State::kMerging) return;
  by_task_.erase(participant.task_id);
  v1::TaskReassigned event;
  event.set_round(plan_.task.round());
  event.set_participant(participant.spec.name);
  event.set_worker(loss.worker);
  event.set_reason(loss.reason);
  event.set_message(loss.message);
  if (listener_.on_reassigned) listener_.on_reassigned(event);
  const bool local = !participant.spec.only_worker.empty();
  if (loss.failed) {
    participant.failed_workers.insert(loss.worker);
    const bool exhausted =
        static_cast<int>(participant.failed_workers.size()) > plan_.federation.max_retries() ||
        !HasEligibleWorker(participant);
    if (exhausted && !local) {
      Fail(base::MakeError(absl::StatusCode::kFailedPrecondition, loss.reason,
                           "participant " + participant.spec.name + " failed on worker " +
                               loss.worker + ": " + loss.message));
      return;
    }
    if (exhausted) {
      left_out_because_ = "; worker " + loss.worker + " reported: " + loss.message;
      LeaveOut(participant);
      CloseIfReady();
      return;
    }
  } else if (++participant.losses > plan_.federation.max_retries()) {
    LeaveOut(participant);
    CloseIfReady();
    return;
  }
  RequestTask(index);
}

void StepRunner::LeaveOut(Participant& participant) {
  participant.state = State::kLeftOut;
  ++left_out_;
}

bool StepRunner::HasEligibleWorker(const Participant& participant) const {
  const auto workers = fleet_.WorkersWith(plan_.needs);
  return std::any_of(workers.begin(), workers.end(), [&](const std::string& id) {
    return !participant.failed_workers.contains(id) &&
           (participant.spec.only_worker.empty() || participant.spec.only_worker == id);
  });
}

absl::Status StepRunner::Admit(const v1::PartialHeader& header) const {
  const auto it = by_task_.find(header.task_id());
  if (it == by_task_.end() || participants_[it->second].state != State::kLeased) {
    return base::MakeError(absl::StatusCode::kAborted, "ROUND_CLOSED",
                           header.task_id() + " is not in work any more; discard the result");
  }
  if (header.topology_hash() != plan_.task.model().topology_hash()) {
    return base::InvalidArgument("TOPOLOGY_VERSION_MISMATCH",
                                 "expected values for topology " +
                                     plan_.task.model().topology_hash() + ", found " +
                                     header.topology_hash() + "; fetch the task's topology");
  }
  if (header.values_count() != static_cast<uint64_t>(plan_.values_count)) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH", "expected " + std::to_string(plan_.values_count) + " values, found " +
                              std::to_string(header.values_count()));
  }
  const uint64_t most = MaxBodyBytes(plan_.task, *plan_.topology, plan_.values_count);
  if (header.body_bytes() > most || header.body_bytes() < header.values_count() * sizeof(float)) {
    return base::InvalidArgument("SHAPE_MISMATCH", "expected a body of at most " +
                                                       std::to_string(most) + " bytes, found " +
                                                       std::to_string(header.body_bytes()));
  }
  return absl::OkStatus();
}

void StepRunner::Accept(Upload upload, std::function<void(absl::Status)> done) {
  const absl::Status admitted = Admit(upload.header);
  if (!admitted.ok()) {
    done(admitted);
    return;
  }
  const size_t index = by_task_.at(upload.header.task_id());
  participants_[index].state = State::kMerging;
  ++merging_;
  // The worker has done its part: it may take its next task while its numbers are merged.
  fleet_.Complete(upload.header.task_id());
  Merge(index, std::move(upload), std::move(done));
}

void StepRunner::Merge(size_t index, Upload upload, std::function<void(absl::Status)> done) {
  auto header = std::make_shared<v1::PartialHeader>(upload.header);
  auto partial = std::make_shared<reduce::Partial>();
  partial->participant = participants_[index].spec.name;
  partial->examples = header->examples();
  partial->loss_sum = header->loss_sum();
  partial->correct = header->correct();
  partial->peak_memory_bytes = header->peak_memory_bytes();
  // What a worker says of its time cannot be more than has passed since it has the task.
  partial->compute_seconds = absl::ToDoubleSeconds(
      std::clamp(wire::FromProto(header->compute_time()), absl::ZeroDuration(),
                 clock_.Elapsed() - participants_[index].leased_at));
  for (const v1::Metric& metric : header->metric_sums()) {
    partial->metric_sums[metric.name()] = metric.value();
  }
  partial->values_count = static_cast<int64_t>(header->values_count());
  partial->values = std::move(upload.source);
  const auto self = shared_from_this();
  const auto merge = [self, partial, extras = std::move(upload.extras)]() -> absl::Status {
    ESPALIER_RETURN_IF_ERROR(AddExtras(self->plan_.task, *self->plan_.topology, extras, *partial));
    return self->plan_.reducer->Merge(*partial);
  };
  if (partial->values_count <= kInlineMergeValues && merges_.empty()) {
    OnMerged(index, *header, merge(), done);
    return;
  }
  merges_.emplace_back([self, index, header, merge, done] {
    self->pool_.Post([self, index, header, merge, done] {
      const absl::Status status = merge();
      self->core_.Post([self, index, header, status, done] {
        self->merges_.pop_front();
        self->OnMerged(index, *header, status, done);
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
  if (status.ok()) {
    participant.state = State::kDone;
    ++done_;
    CloseIfReady();
    return;
  }
  v1::UpdateRejected event;
  event.set_round(plan_.task.round());
  event.set_participant(participant.spec.name);
  event.set_worker(participant.worker);
  event.set_reason(base::ReasonOf(status));
  event.set_message(base::MessageOf(status));
  if (listener_.on_rejected) listener_.on_rejected(event);
  participant.state = State::kWaiting;
  OnLost(index, {true, participant.worker, event.reason(), event.message()});
}

void StepRunner::Tick() {
  if (ended()) return;
  const absl::Duration now = clock_.Elapsed();
  waiting_for_workers_ =
      std::none_of(participants_.begin(), participants_.end(), [this](const Participant& p) {
        return p.state == State::kLeased || p.state == State::kMerging ||
               (p.state == State::kWaiting && HasEligibleWorker(p));
      });
  if (waiting_for_workers_ && done_ + left_out_ < static_cast<int64_t>(participants_.size()) &&
      fleet_.WorkersWith(plan_.needs).empty()) {
    deadline_ += now - last_tick_;
  }
  last_tick_ = now;
  if (now >= deadline_) OnDeadline();
}

void StepRunner::CloseIfReady() {
  if (ended() || merging_ > 0) return;
  const bool resolved = done_ + left_out_ == static_cast<int64_t>(participants_.size());
  if (!resolved) return;
  const bool proceed =
      plan_.federation.on_quorum_loss() == v1::Federation::QUORUM_POLICY_PROCEED && done_ > 0;
  if (done_ < plan_.needed && proceed) ReportQuorumMissed("proceed");
  if (done_ >= plan_.needed || proceed) {
    Close();
  } else {
    Fail(base::MakeError(absl::StatusCode::kUnavailable, "QUORUM_LOST",
                         "expected updates from " + std::to_string(plan_.needed) +
                             " participants in round " + std::to_string(plan_.task.round()) +
                             ", found " + std::to_string(done_) + ", and no worker is left to ask" +
                             left_out_because_ +
                             "; see the job's events, lower federation.quorum or add workers"));
  }
}

void StepRunner::ReportQuorumMissed(const std::string& decision) {
  v1::QuorumMissed event;
  event.set_round(plan_.task.round());
  event.set_arrived(done_);
  event.set_needed(plan_.needed);
  event.set_decision(decision);
  if (listener_.on_quorum_missed) listener_.on_quorum_missed(event);
}

void StepRunner::OnDeadline() {
  // What arrived in time counts, but only its merge tells whether it is good.
  if (merging_ > 0) return;
  const v1::Federation& federation = plan_.federation;
  const bool quorum = done_ >= plan_.needed;
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
                       "expected " + std::to_string(plan_.needed) + " updates in round " +
                           std::to_string(plan_.task.round()) + " before its deadline, found " +
                           std::to_string(done_) +
                           "; raise federation.round_deadline, lower federation.quorum or add "
                           "workers"));
}

void StepRunner::Close() {
  finished_ = true;
  WithdrawTasks("ROUND_CLOSED");
  const auto self = shared_from_this();
  if (plan_.values_count <= kInlineMergeValues) {
    listener_.on_finished(plan_.reducer->Finish());
    return;
  }
  pool_.Post([self] {
    auto result = std::make_shared<absl::StatusOr<reduce::Reduced>>(self->plan_.reducer->Finish());
    self->core_.Post([self, result] {
      if (!self->aborted_) self->listener_.on_finished(std::move(*result));
    });
  });
}

void StepRunner::Abort(const std::string& reason) {
  aborted_ = true;
  if (!finished_) WithdrawTasks(reason);
}

void StepRunner::WithdrawTasks(const std::string& reason) {
  // Those that wait go first; else each worker that gets free would be given the next one of them.
  for (const State state : {State::kWaiting, State::kLeased}) {
    for (const Participant& participant : participants_) {
      if (participant.state == state) fleet_.Withdraw(participant.task_id, reason);
    }
  }
  by_task_.clear();
}

void StepRunner::Fail(const absl::Status& status) {
  Abort("STEP_FAILED");
  finished_ = true;
  listener_.on_finished(status);
}

}  // namespace espalier::server::round
