// FakeClock: time that passes only when the test says so.
#pragma once

#include "absl/time/time.h"
#include "common/base/clock.h"

namespace espalier::test {

class FakeClock : public base::Clock {
 public:
  absl::Time Wall() const override { return absl::FromUnixSeconds(1'700'000'000) + elapsed_; }
  absl::Duration Elapsed() const override { return elapsed_; }
  void Advance(absl::Duration by) { elapsed_ += by; }

 private:
  absl::Duration elapsed_ = absl::Seconds(1);
};

}  // namespace espalier::test
