// The memory that this process may use.
//
// Threading: reads files under /proc and /sys; any thread.
// Errors:    none; what cannot be read limits nothing.
#pragma once

#include <cstdint>
#include <string>

namespace espalier::server::admission {

// The least of the machine's memory and the limits of the control groups that this process is in
// (memory.max of version 2, memory.limit_in_bytes of version 1), from its own up to the root.
// 0: nothing could be read. Bytes. `root` is put before all paths.
uint64_t HostMemoryBytes(const std::string& root = "");

}  // namespace espalier::server::admission
