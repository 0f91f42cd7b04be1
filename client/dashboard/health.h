// Whether a dashboard runs, for health checks.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace espalier::dashboard {

// Asks the dashboard that listens on HOST:PORT for its page; a wildcard host is asked on loopback. Takes
// a few seconds at most. Errors: InvalidArgument INVALID_ADDRESS; Unavailable NOT_SERVING.
absl::Status CheckServes(const std::string& listen);

}  // namespace espalier::dashboard
