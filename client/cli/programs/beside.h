// Programs that are installed beside this one and do a part of its work.
//
// Threading:   use from the main thread.
// Errors:      Unavailable PROGRAM_FAILED when the program cannot be started, Internal
//              PROGRAM_FAILED when a signal ended it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::cli {

// Runs `program` with this process's input and output, and waits for it. Returns the exit code that
// the command line has for the program's own.
absl::StatusOr<int> RunBeside(const std::string& program,
                              const std::vector<std::string>& arguments);

// The same; what it writes to standard output goes to `text`. When it does not end with 0 it has
// said why on standard error.
absl::StatusOr<int> ReadBeside(const std::string& program,
                               const std::vector<std::string>& arguments, std::string& text);

}  // namespace espalier::cli
