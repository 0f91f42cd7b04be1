// The memory that this process may use, by the machine and by its control groups.
//
// Threading: reads files under /proc and /sys; any thread.
// Errors:    none; what cannot be read limits nothing.
#pragma once

#include <cstdint>
#include <string>

namespace espalier::io {

// The least limit of the control groups that this process is in (memory.max of version 2,
// memory.limit_in_bytes of version 1), from its own up to the root. 0: there is none. Bytes. `root`
// is put before all paths.
uint64_t ControlGroupMemoryBytes(const std::string& root = "");

// The least of that and the machine's memory. 0: nothing could be read.
uint64_t HostMemoryBytes(const std::string& root = "");

}  // namespace espalier::io
