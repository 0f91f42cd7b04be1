#include "server/api/deadlines.h"

#include <utility>
#include <vector>

namespace espalier::server::api {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(250);

}  // namespace

void Deadlines::Expire() {
  std::vector<std::function<void()>> due;
  {
    const base::MutexLock lock(mutex_);
    const absl::Duration now = clock_.Elapsed();
    if (now - looked_ < kLook) return;
    looked_ = now;
    for (auto& [id, entry] : entries_) {
      if (entry.due > now) continue;
      entry.due = absl::InfiniteDuration();
      due.push_back(entry.expired);
    }
  }
  for (const auto& expired : due) expired();
}

uint64_t Deadlines::Add(std::function<void()> expired) {
  const base::MutexLock lock(mutex_);
  entries_[next_].expired = std::move(expired);
  return next_++;
}

void Deadlines::Set(uint64_t id, absl::Duration due) {
  const base::MutexLock lock(mutex_);
  entries_.at(id).due = due;
}

void Deadlines::Remove(uint64_t id) {
  const base::MutexLock lock(mutex_);
  entries_.erase(id);
}

}  // namespace espalier::server::api
