#include "server/access/open_calls.h"

#include <utility>
#include <vector>

namespace espalier::server::access {

uint64_t OpenCalls::Add(Caller caller, std::function<void(const absl::Status&)> end) {
  const base::MutexLock lock(mutex_);
  entries_[next_] = {std::move(caller), std::move(end)};
  return next_++;
}

void OpenCalls::Remove(uint64_t id) {
  const base::MutexLock lock(mutex_);
  entries_.erase(id);
}

std::optional<pki::Certificate> OpenCalls::CertificateOf(const std::string& worker) const {
  const base::MutexLock lock(mutex_);
  for (const auto& [id, entry] : entries_) {
    const Caller& caller = entry.caller;
    if (caller.role == pki::Role::kWorker && caller.name == worker) {
      return caller.certificates->front();
    }
  }
  return std::nullopt;
}

void OpenCalls::Check(const Gate& gate) {
  std::vector<std::pair<std::function<void(const absl::Status&)>, absl::Status>> ends;
  {
    const base::MutexLock lock(mutex_);
    for (auto at = entries_.begin(); at != entries_.end();) {
      const absl::Status good = gate.StillGood(at->second.caller);
      if (good.ok()) {
        ++at;
        continue;
      }
      ends.emplace_back(std::move(at->second.end), good);
      at = entries_.erase(at);
    }
  }
  for (const auto& [end, status] : ends) end(status);
}

}  // namespace espalier::server::access
