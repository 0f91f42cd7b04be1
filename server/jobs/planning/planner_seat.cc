#include "server/jobs/planning/planner_seat.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace espalier::server::jobs {
namespace {

absl::Status JobEnded() {
  return base::FailedPrecondition("JOB_ENDED",
                                  "expected a job that is PENDING or RUNNING, found that it has "
                                  "ended; nothing is left to decide");
}

}  // namespace

bool PlannerSeat::taken() const { return !closed_ && !lease_.empty() && clock_.Elapsed() < until_; }

absl::StatusOr<std::string> PlannerSeat::Take(const std::string& holder) {
  if (closed_) return JobEnded();
  if (taken()) {
    return base::MakeError(
        absl::StatusCode::kAlreadyExists, "SEAT_TAKEN",
        fmt::format("expected a job without a planner, found \"{}\", whose lease has {:.0f} s "
                    "left; wait until it leaves or its lease has run out",
                    holder_, absl::ToDoubleSeconds(until_ - clock_.Elapsed())));
  }
  holder_ = holder;
  lease_ = fmt::format("planner-{}", ++leases_);
  until_ = clock_.Elapsed() + term_;
  return lease_;
}

absl::Status PlannerSeat::Check(const std::string& lease) const {
  if (closed_) return JobEnded();
  if (taken() && lease == lease_) return absl::OkStatus();
  return base::FailedPrecondition(
      "LEASE_ENDED", fmt::format("expected the lease of the job's planner, found \"{}\", which has "
                                 "ended; take the seat again",
                                 lease));
}

absl::Status PlannerSeat::Renew(const std::string& lease) {
  ESPALIER_RETURN_IF_ERROR(Check(lease));
  until_ = clock_.Elapsed() + term_;
  return absl::OkStatus();
}

absl::Status PlannerSeat::Leave(const std::string& lease) {
  ESPALIER_RETURN_IF_ERROR(Check(lease));
  lease_.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<Question>> PlannerSeat::Open(const std::string& lease) {
  ESPALIER_RETURN_IF_ERROR(Renew(lease));
  std::vector<Question> open;
  open.reserve(asked_.size());
  for (const Asked& asked : asked_) open.push_back(asked.question);
  return open;
}

absl::Status PlannerSeat::Answer(const std::string& lease, const std::string& question,
                                 const std::string& decision) {
  ESPALIER_RETURN_IF_ERROR(Renew(lease));
  const auto asked =
      std::ranges::find_if(asked_, [&](const Asked& one) { return one.question.id == question; });
  if (asked == asked_.end()) {
    return base::NotFound(
        "NO_SUCH_QUESTION",
        fmt::format("expected a question that is open, found \"{}\", which was answered or "
                    "withdrawn; ask for the open ones again",
                    question));
  }
  // A copy: an answer that counts withdraws the question, and may ask the next one.
  const auto take = asked->take;
  return take(decision);
}

void PlannerSeat::Ask(Question question,
                      std::function<absl::Status(const std::string& decision)> take) {
  asked_.push_back({std::move(question), std::move(take)});
}

void PlannerSeat::Withdraw(const std::string& question) {
  std::erase_if(asked_, [&](const Asked& asked) { return asked.question.id == question; });
}

}  // namespace espalier::server::jobs
