// Whether a process of this machine serves a page over HTTP: what health checks ask.
#pragma once

#include <string_view>

#include "common/net/listener.h"

namespace espalier::net {

// Sends `request`, such as "GET /metrics", to where a process listens, and says whether the answer is 200. A
// wildcard host is asked on loopback. Connecting, sending and waiting take 3 s each at most.
// Threading: any thread; waits.
bool ServesHttp(Address address, std::string_view request);

}  // namespace espalier::net
