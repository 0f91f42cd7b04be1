// Admission: the coordinator's memory budget, and which jobs take part of it.
//
// A job that could never run within the budget is refused when it is submitted. One that fits, but
// not beside those that run, waits until it does; jobs that wait begin in the order in which they
// were submitted, so that a large one is not passed for ever. What is kept of jobs grows with their
// rounds, is counted as it grows, and stays when they have ended, where it has no other place.
//
// Units:     bytes.
// Threading: lives on the core executor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "absl/status/statusor.h"
#include "common/config/parameters.h"
#include "server/admission/memory_price.h"

namespace espalier::server::admission {

class Admission {
 public:
  // 0: no budget; everything is admitted.
  explicit Admission(uint64_t budget_bytes) : budget_(static_cast<double>(budget_bytes)) {}

  // What is wrong with a job of this price, if it could never run here: the sum, its parts, and
  // what would fit. `spec` is the job.
  std::optional<config::Violation> Refusal(const v1::JobSpec& spec, const Price& price) const;

  // A job was accepted.
  void Enter(const std::string& job, const Price& price);
  // Asked again and again before a job begins: "" when it may, and then it takes its part of the
  // budget; else what it waits for. A job that is not `ready`, since it waits for something else,
  // is in nobody's way; it gets "", too. Errors: FailedPrecondition MEMORY_BUDGET_EXCEEDED when it
  // fitted once, and never will again, as what is kept of other jobs has grown.
  absl::StatusOr<std::string> MayBegin(const std::string& job, bool ready);
  // A job that has entered committed so many rounds.
  void Progress(const std::string& job, int32_t rounds);
  // It has ended, or is put aside. `stays`: its record is kept in memory.
  void Leave(const std::string& job, bool stays);
  // A job that has left, and whose record is not kept any more.
  void Forget(const std::string& job);

 private:
  struct Entry {
    uint64_t order = 0;
    Price price;
    int32_t rounds = 0;
    bool running = false;
  };

  // Of the budget for running jobs: without the program itself and the records of jobs.
  double Room() const;

  const double budget_;
  uint64_t next_order_ = 0;
  double running_ = 0;                  // what running jobs take beside their records
  double records_ = 0;                  // of all jobs in memory
  std::map<std::string, double> kept_;  // records of jobs that have left and stay
  std::map<std::string, Entry> jobs_;   // that have not ended
  std::set<uint64_t> waiting_;          // orders of those that were told to wait
};

}  // namespace espalier::server::admission
