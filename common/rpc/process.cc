#include "common/rpc/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "absl/synchronization/mutex.h"

namespace espalier::rpc {

namespace {

// A standard stream that is closed leads to a place that cannot be written. Otherwise the next file
// or connection that is opened would get its number, and what is printed would go there.
void OccupyStandardStreams() {
  for (int stream = STDIN_FILENO; stream <= STDERR_FILENO; ++stream) {
    if (fcntl(stream, F_GETFD) < 0) open("/dev/null", O_RDONLY);
  }
}

}  // namespace

void PrepareProcess() {
  OccupyStandardStreams();
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

}  // namespace espalier::rpc
