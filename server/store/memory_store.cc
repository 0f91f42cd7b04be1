#include "server/store/memory_store.h"

#include "common/base/check.h"
#include "common/base/status.h"

namespace espalier::server::store {

absl::StatusOr<uint64_t> MemoryStore::Begin(uint64_t first) {
  incarnation_ = incarnation_.has_value() ? *incarnation_ + 1 : first;
  return *incarnation_;
}

absl::Status MemoryStore::Commit(std::span<const JobWrite> writes) {
  for (const JobWrite& write : writes) {
    for (const AccessWrite& access : write.access) {
      if (access.record.has_value()) {
        access_[access.name] = *access.record;
      } else {
        access_.erase(access.name);
      }
    }
    if (write.job.empty()) continue;
    if (write.deleted) {
      Delete(write.job);
      continue;
    }
    const auto [at, is_new] = by_name_.try_emplace(write.job, next_number_);
    ESPALIER_CHECK(is_new == write.accepted.has_value(), "a job is accepted by its first write");
    if (is_new) jobs_[next_number_++] = {write.job, *write.accepted, "", "", "", {}, {}};
    StoredJob& job = jobs_.at(at->second);
    if (write.record.has_value()) job.record = *write.record;
    if (write.progress.has_value()) job.progress = *write.progress;
    if (write.state.has_value()) job.state = *write.state;
    for (const StoredEvent& event : write.events) {
      ESPALIER_CHECK(job.events.empty() || event.sequence == job.events.back().sequence + 1,
                     "events of a job come one after the other");
      job.events.push_back(event);
    }
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

void MemoryStore::Delete(const std::string& job) {
  const auto at = by_name_.find(job);
  ESPALIER_CHECK(at != by_name_.end(), "a job that is deleted is there");
  jobs_.erase(at->second);
  by_name_.erase(at);
}

absl::Status MemoryStore::Jobs(const Visit& visit) {
  for (const auto& [number, job] : jobs_) {
    ESPALIER_RETURN_IF_ERROR(visit({job.job, job.accepted, job.record, "", "", {}, {}}));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> MemoryStore::ReadRecord(const std::string& job) {
  const auto at = by_name_.find(job);
  if (at == by_name_.end()) return NoSuchJob(job);
  return jobs_.at(at->second).record;
}

absl::StatusOr<StoredJob> MemoryStore::Read(const std::string& job) {
  const auto at = by_name_.find(job);
  if (at == by_name_.end()) return NoSuchJob(job);
  return jobs_.at(at->second);
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> MemoryStore::CountedUpdates() {
  return std::vector<std::pair<std::string, std::string>>(counted_.begin(), counted_.end());
}

absl::StatusOr<std::map<std::string, std::string>> MemoryStore::AccessRecords() { return access_; }

}  // namespace espalier::server::store
