// Pacer: keeps what may happen thousands of times a second from being written as often.
//
// Threading: thread-safe.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/time/time.h"
#include "common/base/mutex.h"

namespace espalier::base {

class Pacer {
 public:
  explicit Pacer(absl::Duration interval) : interval_(interval) {}

  // At most once in each interval: how often Take() was called since it last gave a number, this
  // call included. `now` never goes back.
  std::optional<int64_t> Take(absl::Duration now) {
    const MutexLock lock(mutex_);
    ++calls_;
    if (now < next_) return std::nullopt;
    next_ = now + interval_;
    return std::exchange(calls_, 0);
  }

 private:
  const absl::Duration interval_;
  Mutex mutex_;
  absl::Duration next_ ABSL_GUARDED_BY(mutex_) = -absl::InfiniteDuration();
  int64_t calls_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace espalier::base
