#include "server/jobs/listing/cluster_feeds.h"

#include <set>
#include <utility>

namespace espalier::server::jobs {
namespace {

constexpr absl::Duration kBetweenStates = absl::Seconds(1);
constexpr absl::Duration kBetweenHeartbeats = absl::Seconds(10);

}  // namespace

void ClusterFeeds::AddJob(const std::string& name, const std::string& owner,
                          const events::EventLog* log) {
  jobs_.Changed(name, owner);
  if (log != nullptr) seen_jobs_[name].sequence = log->last_shown();
}

void ClusterFeeds::LookAtJob(const JobRunner& job, const std::string& owner, absl::Duration now,
                             bool leaves) {
  const auto found = seen_jobs_.find(job.name());
  if (found == seen_jobs_.end()) return;
  SeenJob& seen = found->second;
  const events::EventLog& log = *job.events();
  while (auto event = log.After(seen.sequence)) {
    seen.sequence = event->sequence();
    jobs_.Happened(job.name(), owner, *std::move(event));
    seen.is_told = false;
  }
  if (std::string condition = job.condition(); condition != seen.condition) {
    seen.condition = std::move(condition);
    seen.is_told = false;
  }
  // That a job has ended is told after what led to it, which may still be on its way to the disk.
  if (!leaves && job.ended() && log.last_shown() != log.last_sequence()) return;
  const bool is_new_state = job.state() != seen.state;
  if (is_new_state || leaves || (!seen.is_told && now >= seen.told + kBetweenStates)) {
    seen.state = job.state();
    seen.is_told = true;
    seen.told = now;
    jobs_.Changed(job.name(), owner);
  }
  if (leaves) seen_jobs_.erase(found);
}

void ClusterFeeds::RemoveJob(const std::string& name) {
  seen_jobs_.erase(name);
  jobs_.Gone(name);
}

void ClusterFeeds::LookAtWorkers(const std::vector<v1::Worker>& workers, absl::Duration now) {
  look_at_workers_ = now + kBetweenStates;
  std::set<std::string> there;
  for (const v1::Worker& worker : workers) {
    there.insert(worker.name());
    v1::Worker timeless = worker;
    timeless.clear_last_seen_time();
    std::string view = timeless.SerializeAsString();
    std::string with_time = worker.last_seen_time().SerializeAsString();
    const auto [it, is_new] = seen_workers_.try_emplace(worker.name());
    SeenWorker& seen = it->second;
    const bool is_due = with_time != seen.with_time && now >= seen.told + kBetweenHeartbeats;
    if (!is_new && view == seen.view && !is_due) continue;
    seen = {std::move(view), std::move(with_time), now};
    workers_.Changed(worker.name(), "");
  }
  for (auto it = seen_workers_.begin(); it != seen_workers_.end();) {
    if (there.contains(it->first)) {
      ++it;
      continue;
    }
    workers_.Gone(it->first);
    it = seen_workers_.erase(it);
  }
}

void ClusterFeeds::Tell() {
  jobs_.Tell();
  workers_.Tell();
}

}  // namespace espalier::server::jobs
