// RoundMemory: who did what in the newest rounds of all jobs, for those who look (progress.proto).
//
// It is no part of a job: nothing of it is written down, and a coordinator that starts again knows only
// what happened since.
//
// Bounds:    kRoundsOfJob rounds a job, kMostBytes in all; the oldest go first.
// Threading: lives on the core executor.
#pragma once

#include <cstddef>
#include <deque>
#include <list>
#include <map>
#include <string>

#include "espalier/v1/progress.pb.h"

namespace espalier::server::jobs {

class RoundMemory {
 public:
  static constexpr size_t kRoundsOfJob = 50;
  static constexpr size_t kMostBytes = 64 << 20;

  explicit RoundMemory(size_t most_bytes = kMostBytes) : most_bytes_(most_bytes) {}

  // A round that has ended, after all that ended before it.
  void Keep(v1::RoundProgress round);
  // The newest round of the job; where `number` is not 0, the newest of that number, and where `run` is not empty, of that run.
  // Borrowed until the next call of a method that is not const; null when it is not remembered.
  const v1::RoundProgress* Find(const std::string& job, int32_t number,
                                const std::string& run) const;
  // The oldest number that is remembered of a job, and where it has runs of this one; 0: none.
  int32_t Oldest(const std::string& job, const std::string& run) const;
  // The job was deleted.
  void Forget(const std::string& job);

 private:
  struct Entry {
    v1::RoundProgress round;
    size_t bytes;
  };
  using Entries = std::list<Entry>;  // from the oldest to the newest
  using OfJob = std::deque<Entries::iterator>;

  void DropOldestOf(std::map<std::string, OfJob>::iterator job);

  const size_t most_bytes_;
  size_t bytes_ = 0;
  Entries entries_;
  std::map<std::string, OfJob> jobs_;
};

}  // namespace espalier::server::jobs
