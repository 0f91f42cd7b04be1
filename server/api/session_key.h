#pragma once

#include <cstdint>

namespace espalier::server::api {

// What identifies one registration of a worker (Welcome.session).
using SessionKey = uint64_t;

}  // namespace espalier::server::api
