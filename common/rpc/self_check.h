// Whether a server of this process still hears and answers, seen from outside of gRPC.
#pragma once

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/rpc/server.h"

namespace espalier::rpc {

// Connects to each address that the server listens on, begins HTTP/2 or, with `tls`, a handshake as
// a client does, and waits for the first bytes of an answer; then makes a call within the process,
// whatever its answer. No certificate is needed, so that one that has expired is not taken for a
// fault. Takes one descriptor at a time, and little more than `timeout` in all.
//
// Errors:    Unavailable NOT_HEARD.
// Threading: one thread at a time; the server and its acceptor are there as long.
absl::Status CheckAnswers(const RunningServer& running, bool tls, absl::Duration timeout);

}  // namespace espalier::rpc
