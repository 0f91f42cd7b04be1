// A connection of the process to a socket that it listens on itself.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace espalier::net {

// Connects to the address that `listening` is bound to, by loopback where it is bound to all. `bound`
// is told, before the connection begins, what its peer will be for the listening side (source.h).
// Returns a non-blocking socket, which is the caller's to close. Errors: Unavailable NOT_HEARD, also
// after `timeout`.
absl::StatusOr<int> ConnectWithin(int listening, absl::Duration timeout,
                                  const std::function<void(const std::string& peer)>& bound);

}  // namespace espalier::net
