// Clock: the one source of time, injected so that whole clusters run under a virtual clock in
// tests.
//
// Wall() is only for display; every timeout is measured on Elapsed(), which never jumps.
// Threading: implementations are thread-safe.
#pragma once

#include <chrono>

#include "absl/time/clock.h"
#include "absl/time/time.h"

namespace espalier::base {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual absl::Time Wall() const = 0;
  // Monotonic time since some fixed moment.
  virtual absl::Duration Elapsed() const = 0;
};

class RealClock : public Clock {
 public:
  absl::Time Wall() const override { return absl::Now(); }
  absl::Duration Elapsed() const override {
    return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
  }
};

}  // namespace espalier::base
