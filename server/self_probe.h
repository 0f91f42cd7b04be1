// SelfProbe: ends a process that is there but does not hear itself any more, so that a supervisor
// starts it again. Jobs are written down, so nothing is lost that a restart does not bring back.
//
// Probes:    one every `every`, which must be over within `limit`.
// Ends:      after `failures` that failed in a row. Before the first one succeeded none counts: where
//            a firewall keeps the process from its own address, a restart would change nothing.
// Pauses:    a probe that took much longer than `limit`, or came much later than `every`, says that
//            the process was stopped or the machine slept, and begins the count anew.
// Threading: `probe` and `dead` are called on a thread of the SelfProbe, which the destructor joins,
//            however long a probe takes.
#pragma once

#include <functional>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/metrics/metrics.h"

namespace espalier::server {

struct SelfProbeOptions {
  absl::Duration every = absl::Seconds(10);
  absl::Duration limit = absl::Seconds(10);
  int failures = 3;
};

// Judges probes by when they began and ended.
class ProbeJudge {
 public:
  enum class Verdict {
    kHeard,
    kPaused,      // it says nothing of the process
    kNeverHeard,  // like those before, so that it does not count
    kFailed,
    kDead,
  };

  explicit ProbeJudge(const SelfProbeOptions& options) : options_(options) {}

  Verdict Judge(bool heard, absl::Duration began, absl::Duration ended);

 private:
  const SelfProbeOptions options_;
  bool heard_once_ = false;
  int failed_ = 0;
  absl::Duration last_ended_ = absl::InfiniteDuration();
};

class SelfProbe {
 public:
  // All are borrowed.
  SelfProbe(const SelfProbeOptions& options, std::function<absl::Status()> probe,
            std::function<void(const absl::Status&)> dead, const base::Clock& clock,
            metrics::Metrics& metrics);
  SelfProbe(const SelfProbe&) = delete;
  SelfProbe& operator=(const SelfProbe&) = delete;

 private:
  void Run(const std::stop_token& stop);

  const SelfProbeOptions options_;
  const std::function<absl::Status()> probe_;
  const std::function<void(const absl::Status&)> dead_;
  const base::Clock& clock_;
  metrics::Metrics& metrics_;
  std::jthread thread_;
};

}  // namespace espalier::server
