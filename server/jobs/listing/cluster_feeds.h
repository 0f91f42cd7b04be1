// ClusterFeeds: what changes among all jobs and all workers, for those who watch them
// (events.proto).
//
// Rate:      a job that changes all the time is told of once a second, and at once when its state changes.
//            Workers are looked at once a second; one of which nothing but the time of its heartbeat has
//            changed is told of every ten seconds.
// Events:    those that happen while the coordinator runs; those of former lives are in the jobs' logs.
// Threading: lives on the core executor.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "server/events/change_feed.h"
#include "server/jobs/job_runner.h"

namespace espalier::server::jobs {

class ClusterFeeds {
 public:
  // `began`: tells the feeds of one life of the coordinator from those of another one.
  explicit ClusterFeeds(absl::Time began)
      : life_(static_cast<uint64_t>(absl::ToUnixMicros(began))) {}

  uint64_t life() const { return life_; }
  events::ChangeFeed& jobs() { return jobs_; }
  events::ChangeFeed& workers() { return workers_; }

  // A job that is here now, in memory or not; with `log`, later events of it are told.
  void AddJob(const std::string& name, const std::string& owner, const events::EventLog* log);
  // To be called regularly for every job in memory. `leaves`: once more, as it leaves memory.
  void LookAtJob(const JobRunner& job, const std::string& owner, absl::Duration now,
                 bool leaves = false);
  void RemoveJob(const std::string& name);
  // To be called regularly, with all workers.
  void LookAtWorkers(const std::vector<v1::Worker>& workers, absl::Duration now);
  bool WantsWorkers(absl::Duration now) const { return now >= look_at_workers_; }
  // Tells those who watch.
  void Tell();

 private:
  struct SeenJob {
    int64_t sequence = 0;  // of the newest event that was told
    v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
    std::string condition;
    bool is_told = true;
    absl::Duration told = -absl::InfiniteDuration();
  };
  struct SeenWorker {
    std::string view;  // without the time of its heartbeat
    std::string with_time;
    absl::Duration told;
  };

  const uint64_t life_;
  events::ChangeFeed jobs_;
  events::ChangeFeed workers_;
  std::map<std::string, SeenJob> seen_jobs_;
  std::map<std::string, SeenWorker> seen_workers_;
  absl::Duration look_at_workers_ = -absl::InfiniteDuration();
};

}  // namespace espalier::server::jobs
