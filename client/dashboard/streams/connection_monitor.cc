#include "client/dashboard/streams/connection_monitor.h"

#include <utility>

#include "absl/time/clock.h"
#include "common/base/sleep.h"
#include "common/base/status.h"

namespace espalier::dashboard {
ConnectionMonitor::ConnectionMonitor(std::function<absl::Status()> ask, absl::Duration pause)
    : ask_(std::move(ask)), pause_(pause) {
  thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

ConnectionMonitor::~ConnectionMonitor() = default;

bool ConnectionMonitor::IsLoss(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kDeadlineExceeded;
}

void ConnectionMonitor::Lost(const absl::Status& status) {
  {
    const base::MutexLock lock(mutex_);
    if (!state_.connected) return;
    state_ = {false, base::MessageOf(status), absl::Now()};
    changed_.NotifyAll();
  }
  listeners_.Tell();
}

ConnectionMonitor::State ConnectionMonitor::state() const {
  const base::MutexLock lock(mutex_);
  return state_;
}

bool ConnectionMonitor::WaitUntilConnected(const std::stop_token& stop) {
  return WaitUntil(true, stop);
}

bool ConnectionMonitor::WaitUntil(bool connected, const std::stop_token& stop) {
  const std::stop_callback stopped(stop, [this] {
    const base::MutexLock lock(mutex_);
    changed_.NotifyAll();
  });
  const base::MutexLock lock(mutex_);
  changed_.Wait(mutex_, [this, &stop, connected]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return stop.stop_requested() || state_.connected == connected;
  });
  return !stop.stop_requested();
}

void ConnectionMonitor::Run(const std::stop_token& stop) {
  while (WaitUntil(false, stop)) {
    if (IsLoss(ask_())) {
      base::SleepUnlessStopped(absl::ToChronoNanoseconds(pause_), stop);
      continue;
    }
    {
      const base::MutexLock lock(mutex_);
      state_ = {};
      changed_.NotifyAll();
    }
    listeners_.Tell();
  }
}

}  // namespace espalier::dashboard
