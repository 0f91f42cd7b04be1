// ConnectionMonitor: whether the coordinator can be reached, as those who call it find out. Once it was
// lost, a thread asks until it is there again.
//
// Threading: thread-safe. Listeners are called by whoever finds out, and must not wait.
#pragma once

#include <cstdint>
#include <functional>
#include <stop_token>
#include <string>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/dashboard/streams/listeners.h"
#include "common/base/mutex.h"

namespace espalier::dashboard {

class ConnectionMonitor {
 public:
  struct State {
    bool connected = true;
    std::string message;  // where it is not: why
    absl::Time since;     // when it was lost
  };

  // `ask` calls the coordinator; it is asked again after `pause`.
  explicit ConnectionMonitor(std::function<absl::Status()> ask,
                             absl::Duration pause = absl::Milliseconds(500));
  ~ConnectionMonitor();

  // Whether a call that ended like this says that the coordinator cannot be reached.
  static bool IsLoss(const absl::Status& status);
  void Lost(const absl::Status& status);
  State state() const;
  // Waits until it is connected. False: `stop` was requested before.
  bool WaitUntilConnected(const std::stop_token& stop);
  Listeners& listeners() { return listeners_; }

 private:
  // False: `stop` was requested before.
  bool WaitUntil(bool connected, const std::stop_token& stop);
  void Run(const std::stop_token& stop);

  const std::function<absl::Status()> ask_;
  const absl::Duration pause_;
  mutable base::Mutex mutex_;
  base::CondVar changed_;
  State state_ ABSL_GUARDED_BY(mutex_);
  Listeners listeners_;
  std::jthread thread_;
};

}  // namespace espalier::dashboard
