// What an error of a transfer says about the network between worker and coordinator.
//
// Chunks and bodies carry checksums; headers and requests carry none. So an error may mean that
// bytes changed on the way although nobody did anything wrong.
//
// Threading: pure functions.
#pragma once

#include "absl/status/status.h"

namespace espalier::worker::session {

enum class Fault {
  kNone,      // OK, or an answer that stands
  kBroken,    // the call ended without an answer of the coordinator
  kDamaged,   // bytes arrived other than they were sent
  kDoubtful,  // the coordinator refuses a header or request, which may have changed on the way
};

// The fault that `status`, the end of a Submit or a Fetch, tells of.
Fault FaultOf(const absl::Status& status);

// How often in a row a transfer is repeated after faults of one kind.
//
// Threading: not thread-safe.
class Repeats {
 public:
  // The number of this fault in a row, from 1; 0 when the transfer must not be repeated again.
  int Count(Fault fault);
  // Bytes arrived that were missing: what went wrong before is forgotten.
  void Progress() { *this = {}; }

 private:
  int broken_ = 0;
  int damaged_ = 0;
  int doubtful_ = 0;
};

// The error of a transfer that was damaged again and again; `last` is how it ended last.
absl::Status DamagedTooOften(const absl::Status& last);

}  // namespace espalier::worker::session
