// The limits of connections to the coordinator's port, and what is told of those that pass them.
#pragma once

#include <functional>
#include <string>

#include "common/base/clock.h"
#include "common/base/limits.h"
#include "common/metrics/metrics.h"
#include "common/net/acceptor.h"
#include "common/net/connections.h"
#include "common/net/descriptors.h"
#include "server/flags.h"

namespace espalier::server {

// Without a flag, strangers at one address leave half of the room to others. More than 1,024 of one
// address are a fault or a proxy. As many newcomers take some 60 MB for their handshakes.
net::ConnectionLimits ConnectionLimitsFrom(const Flags& flags, const base::Limits& limits,
                                           const net::DescriptorBudget& descriptors);

// Counts and logs connections that were not taken. Borrows both. Called by one thread.
std::function<void(net::Refusal, const std::string&)> RefusalTeller(const base::Clock& clock,
                                                                    metrics::Metrics& metrics);

// Counts and logs connections that were ended because no call came of what they sent, or none at
// all. Borrows both.
std::function<void(net::Overdue, const std::string&)> EndTeller(const base::Clock& clock,
                                                                metrics::Metrics& metrics);

}  // namespace espalier::server
