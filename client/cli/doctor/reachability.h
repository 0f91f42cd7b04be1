// Whether a server can be reached from here, step by step: its name, a proxy in between, its port, our
// certificates.
//
// Limits:    each address is tried for kConnectWithin.
// Threading: any thread; waits for names and connections.
#pragma once

#include <string>

#include "client/cli/doctor/findings.h"
#include "client/lib/client.h"

namespace espalier::cli {

constexpr absl::Duration kConnectWithin = absl::Seconds(3);

// Of one server, "host:port".
Findings CheckServer(const std::string& server);
// The files with which we show who we are and know who the coordinator is.
Findings CheckOwnFiles(const client::ClientOptions& options, absl::Time now);
// This machine: descriptors.
Findings CheckThisMachine();

}  // namespace espalier::cli
