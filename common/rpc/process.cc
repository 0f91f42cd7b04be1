#include "common/rpc/process.h"

#include <cstdlib>

#include "absl/synchronization/mutex.h"

namespace espalier::rpc {

void PrepareProcess() {
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace espalier::rpc
