// Progress of one job on standard error: one live line on a terminal, a plain line per round in a
// pipe.
//
// Threading: not thread-safe. Determinism: what is printed depends on the events only (the time
// left is computed from the rounds' durations), so tests can feed recorded events.
#pragma once

#include <map>
#include <ostream>
#include <string>

#include "absl/time/time.h"
#include "client/cli/format.h"
#include "client/cli/live_block.h"
#include "client/cli/output.h"
#include "espalier/v1/job.pb.h"

namespace espalier::cli {

// What has been seen of a job so far, summed over rounds.
struct RunTotals {
  int64_t bytes = 0;        // sent + received, also before the first round
  int64_t dense_bytes = 0;  // what dense messages would have cost
  double seconds = 0;
  int rounds = 0;
  int64_t peak_worker_memory_bytes = 0;
  absl::Time last_commit = absl::InfinitePast();

  // `committed`: when; rounds of several runs overlap, so that the time between commits counts.
  void Add(const v1::RoundSummary& summary, absl::Time committed = absl::InfinitePast());
  // Share of the dense bytes that was not sent; 0 before the first round.
  double saved() const;
  // Time for so many more rounds, if they take as long as those so far.
  absl::Duration Left(int more_rounds) const;
};

// What people should know of an event that is neither a round nor a change of state: a task that
// moved, an update that was rejected, a quorum that was missed; "" for all others.
std::string TroubleOf(const v1::JobEvent& event);

// A finished step before the first round, in a line.
std::string PreludeText(const v1::PreludeStep& step);

class Progress {
 public:
  // Borrows `err`. `job` gives the name and the number of rounds.
  Progress(std::ostream& err, const Terminal& terminal, const v1::Job& job);

  void OnEvent(const v1::JobEvent& event);
  // A line that stays, above the live one.
  void Note(const std::string& text);
  // Ends the live line, so that other output starts on a line of its own.
  void Finish();

  const RunTotals& totals() const { return totals_; }
  // Newest state and reason that events told.
  v1::Job::State state() const { return state_; }

 private:
  std::string RoundLine(const v1::RoundSummary& summary) const;
  void OnRound(const v1::RoundSummary& summary, absl::Time committed);

  std::ostream& err_;
  Terminal terminal_;
  std::string name_;
  v1::JobSpec spec_;
  int rounds_;
  RunTotals totals_;
  v1::Job::State state_;
  std::map<std::string, Judgement> judgements_;  // newest known, by run
  bool saves_ = false;                           // a round trained a sparse model
  LiveBlock live_;
};

}  // namespace espalier::cli
