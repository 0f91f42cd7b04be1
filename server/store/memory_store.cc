#include "server/store/memory_store.h"

#include "common/base/check.h"

namespace espalier::server::store {

absl::StatusOr<uint64_t> MemoryStore::Begin(uint64_t first) {
  incarnation_ = incarnation_.has_value() ? *incarnation_ + 1 : first;
  return *incarnation_;
}

absl::Status MemoryStore::Commit(std::span<const JobWrite> writes) {
  for (const JobWrite& write : writes) {
    const auto [at, is_new] = by_name_.try_emplace(write.job, jobs_.size());
    ESPALIER_CHECK(is_new == write.accepted.has_value(), "a job is accepted by its first write");
    if (is_new) jobs_.push_back({write.job, *write.accepted, "", "", {}, {}});
    StoredJob& job = jobs_[at->second];
    if (write.record.has_value()) job.record = *write.record;
    if (write.state.has_value()) job.state = *write.state;
    job.events.insert(job.events.end(), write.events.begin(), write.events.end());
    if (write.new_step) job.updates.clear();
    counted_.insert(counted_.end(), write.counted_before.begin(), write.counted_before.end());
    for (const StoredUpdate& update : write.updates) {
      job.updates.push_back(update);
      counted_.emplace_back(update.id, update.fingerprint);
    }
  }
  while (static_cast<int64_t>(counted_.size()) > kRememberedUpdates) counted_.pop_front();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoredJob>> MemoryStore::Load() { return jobs_; }

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> MemoryStore::CountedUpdates() {
  return std::vector<std::pair<std::string, std::string>>(counted_.begin(), counted_.end());
}

}  // namespace espalier::server::store
