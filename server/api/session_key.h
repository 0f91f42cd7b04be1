// What a session is known by; see scheduler/fleet.h.
#pragma once

#include "server/scheduler/fleet.h"

namespace espalier::server::api {

using scheduler::SessionKey;

}  // namespace espalier::server::api
