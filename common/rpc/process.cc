#include "common/rpc/process.h"

#include <cstdlib>
#include <string_view>

#include "absl/synchronization/mutex.h"

namespace espalier::rpc {
namespace {

constexpr const char* kVerbosity = "GRPC_VERBOSITY";
constexpr const char* kSilent = "NONE";

}  // namespace

void PrepareProcess() {
  setenv(kVerbosity, kSilent, /*overwrite=*/0);
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
}

bool GrpcVerbosityWasSet() {
  const char* value = getenv(kVerbosity);
  return value != nullptr && std::string_view(value) != kSilent;
}

}  // namespace espalier::rpc
