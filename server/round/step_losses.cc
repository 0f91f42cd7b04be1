// What a StepRunner makes of workers that vanish with its tasks.
#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "common/base/status.h"
#include "common/log/log.h"
#include "server/round/step_runner.h"

namespace espalier::server::round {
namespace {

// Losses so close to each other have one cause, and it is not a task.
constexpr absl::Duration kOneIncident = absl::Seconds(1);
constexpr int kIncidentsToBeCareful = 2;
constexpr absl::Duration kFirstPause = absl::Seconds(2);
constexpr absl::Duration kLongestPause = absl::Minutes(1);
// Once so many workers are gone, as it may be for good, the rest of the fleet is spared.
constexpr size_t kManyWorkers = 4;
constexpr absl::Duration kLongestPauseOfMany = absl::Minutes(10);
// A task is never given up before so many losses that count, with so many different workers.
constexpr int kLeastLosses = 2;
constexpr int kAnyWidth = std::numeric_limits<int>::max();

// 2 s, 4 s, 8 s … after `tries` before, with which `lost` different workers vanished.
absl::Duration Pause(int tries, size_t lost) {
  const absl::Duration longest = lost >= kManyWorkers ? kLongestPauseOfMany : kLongestPause;
  return std::min(longest, kFirstPause * (int64_t{1} << std::clamp(tries, 0, 10)));
}

}  // namespace

void StepRunner::OnVanished(size_t index, const scheduler::TaskLoss& loss) {
  Participant& participant = participants_[index];
  const absl::Duration now = clock_.Elapsed();
  ++participant.losses;
  participant.lost_workers.insert(loss.worker);
  participant.not_before =
      now + Pause(participant.losses - kLossesOfSuspect, participant.lost_workers.size());
  if (participant.alone) verdicts_.push_back({index, loss.worker, loss.proven, now});
  CountIncident(loss.worker, now);
  if (IsDispensable(index)) {
    LeaveOut(index, base::MakeError(absl::StatusCode::kUnavailable, "QUORUM_LOST",
                                    "worker " + loss.worker + " vanished too often"));
    return;
  }
  RequestTask(index);
}

// A worker with data of its own that vanished too often, where a quorum can do without it.
bool StepRunner::IsDispensable(size_t index) const {
  if (plan_.participants[index].only_worker.empty()) return false;
  const auto left = static_cast<int64_t>(participants_.size()) - left_out_ - 1;
  return participants_[index].losses > plan_.federation.max_retries() && left >= Needed();
}

void StepRunner::CountIncident(const std::string& worker, absl::Duration now) {
  lost_since_result_.insert(worker);
  if (now - last_incident_ > kOneIncident) ++incidents_;
  last_incident_ = now;
  ++losses_since_result_;
  const bool most_are_lost = losses_since_result_ > leased_;
  if (!careful_ && incidents_ >= kIncidentsToBeCareful && most_are_lost) {
    careful_ = true;
    log::Warning("tasks_tried_alone", {{"job", plan_.task.job()},
                                       {"run", plan_.task.run()},
                                       {"round", plan_.task.round()},
                                       {"lost_workers", losses_since_result_}});
  }
  if (!careful_) return;
  next_try_ = now + Pause(pauses_++, lost_since_result_.size());
  fleet_.SetWidth(*group_, 0);
}

bool StepRunner::HasTurn() const {
  if (plan_.turn == nullptr) return true;
  const bool is_free = plan_.turn->holder == nullptr || plan_.turn->holder == this;
  return is_free && clock_.Elapsed() >= plan_.turn->not_before;
}

void StepRunner::EndTurn(bool lost) {
  suspect_out_.reset();
  if (plan_.turn == nullptr) return;
  if (plan_.turn->holder == this) plan_.turn->holder = nullptr;
  if (lost) plan_.turn->not_before = clock_.Elapsed() + 2 * kOneIncident;
}

void StepRunner::TrySuspects() {
  if (!HasTurn()) return;
  const absl::Duration now = clock_.Elapsed();
  // One that was handed to the fleet may still wait there for a worker, or for the step's width.
  // While no worker is there for it, it holds no other up.
  const bool is_waiting =
      suspect_out_.has_value() && participants_[*suspect_out_].state == State::kWaiting;
  const bool is_queued = is_waiting && HasEligibleWorker(*suspect_out_);
  if ((suspect_out_.has_value() && !is_waiting) || now < next_try_) return;
  const auto due = std::find_if(suspects_.begin(), suspects_.end(), [&](size_t index) {
    return participants_[index].not_before <= now && HasEligibleWorker(index);
  });
  if (!is_queued && due != suspects_.end()) {
    suspect_out_ = *due;
    if (plan_.turn != nullptr) plan_.turn->holder = this;
    fleet_.Queue(*group_, QueuedFor(*due));
    suspects_.erase(due);
    if (!careful_) fleet_.Offer(*group_);
  }
  if (!careful_) return;
  fleet_.SetWidth(*group_, static_cast<int>(leased_) + 1);
  // A task that no worker took at once is offered again later, if it is this step's turn then.
  if (plan_.turn != nullptr && !ended()) fleet_.SetWidth(*group_, static_cast<int>(leased_));
}

void StepRunner::JudgeLosses() {
  const absl::Duration now = clock_.Elapsed();
  const std::vector<Verdict> open = std::exchange(verdicts_, {});
  for (const Verdict& verdict : open) {
    if (now - verdict.at < kOneIncident) {
      verdicts_.push_back(verdict);
      continue;
    }
    const int lost = fleet_.LostBetween(verdict.at - kOneIncident, verdict.at + kOneIncident);
    if (!verdict.proven || lost > 1) continue;
    Participant& participant = participants_[verdict.index];
    participant.ended_workers.insert(verdict.worker);
    ++participant.counted_losses;
    const int most = std::max(kLeastLosses, plan_.federation.max_retries());
    if (participant.counted_losses >= most && participant.ended_workers.size() >= kLeastLosses) {
      GiveUp(verdict.index);
    }
    if (ended()) return;
  }
}

void StepRunner::GiveUp(size_t index) {
  std::erase(suspects_, index);
  LeaveOut(index, base::MakeError(
                      absl::StatusCode::kFailedPrecondition, "TASK_ENDS_WORKERS",
                      fmt::format("{} ended {} workers that took it; {} had completed other tasks, "
                                  "and vanished while no other worker did. Look at what these "
                                  "workers printed last; the job cannot be done by this version",
                                  Describe(index), participants_[index].losses,
                                  fmt::join(participants_[index].ended_workers, " and "))));
}

std::string StepRunner::Describe(size_t index) const {
  const v1::Task& task = plan_.task;
  const auto* kind = v1::Task::descriptor()->FindFieldByNumber(task.kind_case());
  return fmt::format("the task of participant {} ({}, {}, {} stored weights, data set '{}')",
                     plan_.participants[index].name, kind == nullptr ? "nothing" : kind->name(),
                     RoundText(), plan_.topology == nullptr ? 0 : plan_.topology->total_stored(),
                     task.data().dataset());
}

std::string StepRunner::RoundText() const {
  const std::string round = fmt::format("round {}", plan_.task.round());
  return plan_.task.run().empty() ? round : fmt::format("{} of {}", round, plan_.task.run());
}

void StepRunner::OnProgress() {
  incidents_ = 0;
  losses_since_result_ = 0;
  lost_since_result_.clear();
  pauses_ = 0;
  next_try_ = absl::ZeroDuration();
  if (!std::exchange(careful_, false)) return;
  // Those that wait are suspects no more, but for participants that lost two workers themselves.
  fleet_.SetWidth(*group_, kAnyWidth);
}

std::optional<size_t> StepRunner::NextSuspect() const {
  if (suspect_out_.has_value()) return suspect_out_;
  const auto next =
      std::min_element(suspects_.begin(), suspects_.end(), [this](size_t a, size_t b) {
        return participants_[a].not_before < participants_[b].not_before;
      });
  if (next != suspects_.end()) return *next;
  if (!careful_) return std::nullopt;
  const auto lost =
      std::find_if(participants_.begin(), participants_.end(), [](const Participant& participant) {
        return participant.state == State::kWaiting && participant.losses > 0;
      });
  if (lost == participants_.end()) return std::nullopt;
  return static_cast<size_t>(lost - participants_.begin());
}

std::optional<Obstacle> StepRunner::obstacle() const {
  if (waiting_for_workers_) {
    return Obstacle{"WAITING_WORKERS",
                    fmt::format("no connected worker can do what is left of {}; {} workers are "
                                "connected{}{}",
                                RoundText(), fleet_.active(), fleet_.AndIdled(),
                                fleet_.AndRefusing(plan_.pool->needs()))};
  }
  if (held_by_quota_.has_value()) {
    return Obstacle{"WAITING_QUOTA",
                    fmt::format("{} waits for other jobs of '{}': by the quota `running_tasks` at "
                                "most {} tasks of them are in work at a time",
                                RoundText(), plan_.owner, *held_by_quota_)};
  }
  std::string held_back = HeldBack();
  if (held_back.empty()) return std::nullopt;
  return Obstacle{"TASKS_HELD_BACK", std::move(held_back)};
}

std::string StepRunner::HeldBack() const {
  const std::optional<size_t> suspect = NextSuspect();
  const bool in_work =
      suspect_out_.has_value() && participants_[*suspect_out_].state != State::kWaiting;
  // While other tasks are in work the step goes on.
  if (leased_ > (in_work ? 1 : 0) || (!careful_ && !suspect.has_value())) return "";
  absl::Duration next = next_try_;
  std::string message;
  if (careful_) {
    message =
        fmt::format("{} workers in a row vanished with tasks of {}; one task at a time is tried",
                    losses_since_result_, RoundText());
  }
  if (suspect.has_value()) {
    const Participant& participant = participants_[*suspect];
    next = std::max(next, participant.not_before);
    message += message.empty() ? "" : ", now ";
    message += fmt::format(
        "{}: workers vanished with it {} times ({} different ones), of which {} count against it, "
        "as the worker had completed another task before",
        Describe(*suspect), participant.losses, participant.lost_workers.size(),
        participant.counted_losses);
  }
  if (in_work) return message + "; it is in work";
  const int64_t seconds = absl::ToInt64Seconds(next - clock_.Elapsed());
  return message + (seconds > 0 ? fmt::format("; the next try is in {} s", seconds)
                                : "; the next try waits for a worker that is free");
}

}  // namespace espalier::server::round
