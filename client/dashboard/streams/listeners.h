// Listeners: who is told that there is something new.
//
// Threading: thread-safe. Once Remove() has returned, the listener is not called any more and no call
// of it is under way. Listeners must not wait, nor add or remove listeners.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include "common/base/mutex.h"

namespace espalier::dashboard {

class Listeners {
 public:
  uint64_t Add(std::function<void()> listener) {
    const base::MutexLock lock(mutex_);
    listeners_[next_] = std::move(listener);
    return next_++;
  }
  void Remove(uint64_t id) {
    const base::MutexLock lock(mutex_);
    listeners_.erase(id);
  }
  void Tell() {
    const base::MutexLock lock(mutex_);
    for (const auto& [id, listener] : listeners_) listener();
  }

 private:
  base::Mutex mutex_;
  std::map<uint64_t, std::function<void()>> listeners_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_ ABSL_GUARDED_BY(mutex_) = 1;
};

}  // namespace espalier::dashboard
