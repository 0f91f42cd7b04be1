#include "common/rpc/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <string_view>

#include "absl/synchronization/mutex.h"
#include "common/base/process_memory.h"

namespace espalier::rpc {
namespace {

constexpr const char* kVerbosity = "GRPC_VERBOSITY";
constexpr const char* kSilent = "NONE";

}  // namespace

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
  base::KeepMemoryPrivate();
  OccupyStandardStreams();
  setenv(kVerbosity, kSilent, /*overwrite=*/0);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

bool GrpcVerbosityWasSet() {
  const char* value = getenv(kVerbosity);
  return value != nullptr && std::string_view(value) != kSilent;
}

}  // namespace espalier::rpc
