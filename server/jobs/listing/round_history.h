// RoundHistory: the committed rounds of one job, all of them, by their index from 0.
//
// The rounds themselves stand in the job's event log, which keeps them for the job's life; here is
// where they stand: 8 bytes and a bit for each. A job has at most 1,000,000 rounds, and what all of
// them take is part of its price (server/admission: 1 KiB a round, and 160 bytes for each of its
// layers).
//
// Threading:   lives on the core executor.
// Determinism: Choose() is a pure function of its arguments and of what was evaluated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "server/events/event_log.h"

namespace espalier::server::jobs {

class RoundHistory {
 public:
  explicit RoundHistory(std::shared_ptr<const events::EventLog> log) : log_(std::move(log)) {}

  // The newest event of the log commits this round. `best`: the best one so far.
  void Note(const v1::RoundSummary& summary, bool best);

  // Of a job that another process had in work: its events, from the first one on, and the name of
  // the main metric. Before the first Note().
  void Restore(const std::vector<v1::JobEvent>& events, const std::string& main_metric);

  size_t size() const { return events_.size(); }
  // Absent while no round was evaluated.
  std::optional<size_t> best() const { return best_; }
  // A copy of round `index` < size().
  v1::RoundSummary At(size_t index) const;

  // At most `most` of the first `total` ≤ size() rounds, ascending; 0 = all. `best` is the best of
  // them. Which ones is said at v1::ListRoundsRequest.max_points. Time: O(total).
  std::vector<size_t> Choose(size_t total, std::optional<size_t> best, size_t most) const;

 private:
  void Add(int64_t sequence, const v1::RoundSummary& summary, bool best);

  std::shared_ptr<const events::EventLog> log_;
  std::vector<int64_t> events_;  // sequence numbers
  std::vector<bool> evaluated_;
  std::optional<size_t> best_;
};

}  // namespace espalier::server::jobs
