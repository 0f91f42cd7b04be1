// Waiting that ends early when it is told to.
#pragma once

#include <chrono>
#include <stop_token>

#include "common/base/mutex.h"

namespace espalier::base {

// Waits for `duration`; false when `stop` was requested before.
inline bool SleepUnlessStopped(std::chrono::nanoseconds duration, const std::stop_token& stop) {
  Mutex mutex;
  CondVar wake;
  const std::stop_callback stopped(stop, [&] {
    // With the lock, so that it comes before the wait looks at `stop` or once it waits.
    const MutexLock lock(mutex);
    wake.NotifyAll();
  });
  MutexLock lock(mutex);
  return !wake.WaitFor(mutex, duration, [&stop] { return stop.stop_requested(); });
}

}  // namespace espalier::base
