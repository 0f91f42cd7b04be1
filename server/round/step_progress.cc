// What a step tells those who look at its round.
#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "common/base/printable.h"
#include "common/wire/proto_time.h"
#include "server/round/step_runner.h"

namespace espalier::server::round {
namespace {

// Of one round, in all its phases.
constexpr int kMostParticipants = 1000;
constexpr size_t kMostMessageBytes = 300;

void SetTimeIfAny(absl::Time time, v1::ParticipantProgress& progress,
                  google::protobuf::Timestamp* (v1::ParticipantProgress::*field)()) {
  if (time != absl::InfinitePast()) wire::SetTimestamp(time, (progress.*field)());
}

}  // namespace

void StepRunner::NoteTrouble(size_t index, v1::ParticipantProgress::State trouble,
                             const std::string& reason, const std::string& message) {
  Participant& participant = participants_[index];
  participant.trouble = trouble;
  participant.reason = reason;
  participant.message = base::Utf8Prefix(message, kMostMessageBytes);
}

v1::ParticipantProgress StepRunner::ProgressOf(size_t index) const {
  using Progress = v1::ParticipantProgress;
  const Participant& participant = participants_[index];
  Progress progress;
  progress.set_participant(plan_.participants[index].name);
  if (!participant.worker.empty()) progress.set_worker("workers/" + participant.worker);
  progress.set_attempts(participant.attempts);
  progress.set_reason(participant.reason);
  progress.set_message(participant.message);
  SetTimeIfAny(participant.assigned, progress, &Progress::mutable_assign_time);
  SetTimeIfAny(participant.arrived, progress, &Progress::mutable_upload_time);
  SetTimeIfAny(participant.counted, progress, &Progress::mutable_accept_time);
  switch (participant.state) {
    case State::kWaiting:
      progress.set_state(participant.trouble == Progress::STATE_UNSPECIFIED
                             ? Progress::STATE_WAITING
                             : participant.trouble);
      break;
    case State::kLeased:
      progress.set_state(Progress::STATE_LEASED);
      break;
    case State::kMerging:
      progress.set_state(Progress::STATE_UPLOADING);
      break;
    case State::kDone:
      progress.set_state(Progress::STATE_ACCEPTED);
      break;
    case State::kLeftOut:
      progress.set_state(Progress::STATE_LEFT_OUT);
      break;
  }
  // The step has ended without it.
  if (ended() && participant.state != State::kDone) progress.set_state(Progress::STATE_LEFT_OUT);
  return progress;
}

void StepRunner::Describe(v1::RoundProgress& progress) const {
  progress.set_arrived(done_);
  progress.set_needed(Needed());
  progress.set_outstanding(
      ended() ? 0 : static_cast<int64_t>(participants_.size()) - done_ - left_out_);
  if (!ended()) {
    wire::SetTimestamp(clock_.Wall() + (deadline_ - clock_.Elapsed()), progress.mutable_deadline());
  }
  // Those that somebody has to look at come first, and those that are done last.
  const auto rank = [this](size_t index) {
    const State state = participants_[index].state;
    if (state == State::kLeftOut) return 0;
    if (state == State::kDone) return 3;
    return participants_[index].trouble == v1::ParticipantProgress::STATE_UNSPECIFIED ? 2 : 1;
  };
  std::vector<size_t> order(participants_.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::ranges::stable_sort(order, {}, rank);
  const int room = kMostParticipants - std::min(kMostParticipants, progress.participants_size());
  const size_t shown = std::min(static_cast<size_t>(room), order.size());
  for (size_t i = 0; i < shown; ++i) {
    v1::ParticipantProgress one = ProgressOf(order[i]);
    one.set_phase(progress.phase());
    *progress.add_participants() = std::move(one);
  }
  progress.set_participants_left_out(progress.participants_left_out() +
                                     static_cast<int32_t>(order.size() - shown));
}

}  // namespace espalier::server::round
