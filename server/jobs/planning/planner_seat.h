// PlannerSeat: from where a job's structure is decided outside of its program.
//
// One planner at a time holds the seat by a lease, which ends when the planner lets it run out. It
// sees the questions that are open and answers them. Questions wait while nobody holds the seat;
// whoever takes it next finds them. An answer counts only with the lease that stands, so that a
// planner which was away for too long can change nothing.
//
// Ownership:   of its job; planners and steps share it.
// Threading:   lives on the core executor.
// Errors:      AlreadyExists SEAT_TAKEN; FailedPrecondition LEASE_ENDED, JOB_ENDED; NotFound
//              NO_SUCH_QUESTION; those of the step that asks.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/tensor/model.h"
#include "server/round/blob_store.h"

namespace espalier::server::jobs {

// What a planner is asked: how the structure of a model changes after a round.
struct Question {
  std::string id;  // within the job: "round-3", or "ticket-1-round-3"; the same when asked again
  std::string run;
  int32_t round = 0;
  std::shared_ptr<const tensor::ModelTopology> structure;  // of the model as it was trained
  std::shared_ptr<const round::Blob> values;               // float32, in the order of `structure`
};

class PlannerSeat {
 public:
  // A lease lasts `term` from when it is taken or renewed.
  PlannerSeat(const base::Clock& clock, absl::Duration term) : clock_(clock), term_(term) {}

  // For planners. `holder` is a name for people. Returns the lease.
  absl::StatusOr<std::string> Take(const std::string& holder);
  absl::Status Renew(const std::string& lease);
  absl::Status Leave(const std::string& lease);
  // The questions without an answer, in the order in which they were asked. Renews the lease.
  absl::StatusOr<std::vector<Question>> Open(const std::string& lease);
  // `decision`: methods/planning/decision.h. When it is refused the question stays open. Renews the
  // lease.
  absl::Status Answer(const std::string& lease, const std::string& question,
                      const std::string& decision);

  // For steps. `take` is called with each answer, until it returns OK or the question is withdrawn.
  void Ask(Question question, std::function<absl::Status(const std::string& decision)> take);
  void Withdraw(const std::string& question);
  bool taken() const;
  // The job has ended: all leases end, and nobody takes the seat any more.
  void Close() { closed_ = true; }

 private:
  struct Asked {
    Question question;
    std::function<absl::Status(const std::string& decision)> take;
  };

  absl::Status Check(const std::string& lease) const;

  const base::Clock& clock_;
  const absl::Duration term_;
  std::string lease_;  // "": nobody ever held the seat, or its holder left
  std::string holder_;
  absl::Duration until_;
  int64_t leases_ = 0;
  bool closed_ = false;
  std::vector<Asked> asked_;
};

}  // namespace espalier::server::jobs
