#include "server/jobs/planning/planner_step.h"

#include <fmt/core.h>

#include <utility>

#include "common/base/status.h"
#include "common/wire/proto_time.h"

namespace espalier::server::jobs {
namespace {

std::string RoundText(const Question& question) {
  const std::string round = fmt::format("round {}", question.round);
  return question.run.empty() ? round : fmt::format("{} of {}", round, question.run);
}

absl::Status NoTasks() {
  return base::MakeError(absl::StatusCode::kAborted, "LEASE_ENDED",
                         "expected a task in work, found a step that a planner decides");
}

}  // namespace

PlannerStep::PlannerStep(const base::Clock& clock, std::shared_ptr<PlannerSeat> seat,
                         Question question, v1::Federation federation,
                         std::function<absl::Status(const std::string&)> check,
                         round::StepListener listener)
    : clock_(clock),
      seat_(std::move(seat)),
      question_(std::move(question)),
      federation_(std::move(federation)),
      check_(std::move(check)),
      listener_(std::move(listener)) {}

PlannerStep::~PlannerStep() { End(); }

void PlannerStep::Start(std::vector<round::Upload>) {
  asked_ = true;
  last_tick_ = clock_.Elapsed();
  deadline_ = last_tick_ + wire::FromProto(federation_.round_deadline());
  const auto weak = weak_from_this();
  seat_->Ask(question_, [weak](const std::string& decision) {
    const auto self = weak.lock();
    return self == nullptr ? absl::OkStatus() : self->Take(decision);
  });
}

absl::Status PlannerStep::Take(const std::string& decision) {
  ESPALIER_RETURN_IF_ERROR(check_(decision));
  reduce::Reduced result;
  result.decision = decision;
  Finish(std::move(result));
  return absl::OkStatus();
}

void PlannerStep::Finish(absl::StatusOr<reduce::Reduced> result) {
  const auto self = shared_from_this();  // the job lets go of it
  End();
  listener_.on_finished(std::move(result));
}

void PlannerStep::End() {
  if (std::exchange(asked_, false)) seat_->Withdraw(question_.id);
}

void PlannerStep::Tick() {
  if (!asked_) return;
  const absl::Duration now = clock_.Elapsed();
  if (!seat_->taken()) deadline_ += now - last_tick_;
  last_tick_ = now;
  if (now >= deadline_) OnDeadline();
}

void PlannerStep::OnDeadline() {
  if (federation_.on_quorum_loss() == v1::Federation::QUORUM_POLICY_PROCEED) {
    Report("proceed");
    Finish(reduce::Reduced());
    return;
  }
  if (federation_.on_quorum_loss() != v1::Federation::QUORUM_POLICY_FAIL &&
      extensions_ < federation_.max_extensions()) {
    Report("extend");
    ++extensions_;
    deadline_ = clock_.Elapsed() + wire::FromProto(federation_.round_deadline());
    return;
  }
  Report("fail");
  Finish(base::MakeError(
      absl::StatusCode::kDeadlineExceeded, "PLANNER_SILENT",
      fmt::format("expected a decision of the job's planner about {} before its deadline, found "
                  "none; raise federation.round_deadline, or let federation.on_quorum_loss be "
                  "proceed",
                  RoundText(question_))));
}

void PlannerStep::Report(const std::string& decision) const {
  v1::QuorumMissed event;
  event.set_round(question_.round);
  event.set_run(question_.run);
  event.set_arrived(0);
  event.set_needed(1);
  event.set_decision(decision);
  if (listener_.on_quorum_missed) listener_.on_quorum_missed(event);
}

void PlannerStep::Describe(v1::RoundProgress& progress) const {
  progress.set_arrived(asked_ ? 0 : 1);
  progress.set_needed(1);
  progress.set_outstanding(asked_ ? 1 : 0);
  if (asked_) {
    wire::SetTimestamp(clock_.Wall() + (deadline_ - clock_.Elapsed()), progress.mutable_deadline());
  }
}

std::optional<round::Obstacle> PlannerStep::obstacle() const {
  if (!asked_ || seat_->taken()) return std::nullopt;
  return round::Obstacle{
      "WAITING_PLANNER",
      fmt::format("no planner is there to decide about {}; start one", RoundText(question_))};
}

void PlannerStep::Accept(round::Upload, std::function<void(absl::Status)> done) { done(NoTasks()); }

}  // namespace espalier::server::jobs
