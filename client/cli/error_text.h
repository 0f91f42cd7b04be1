// Errors as they are printed.
//
// Whatever an error quotes may come from another machine. Its message and its violations are
// therefore printed as one line each; further lines exist only where a command adds them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/output.h"

namespace espalier::cli {

// The same error with lines below its message, such as what to type next.
absl::Status WithFurtherLines(const absl::Status& status, const std::vector<std::string>& lines);

// What a command ends with whose standard output could not be written.
absl::Status OutputUnwritable();

// An error as text for people, or as a JSON object for programs (kJson, kYaml).
std::string ErrorText(const absl::Status& status, Format format, const Terminal& terminal);

}  // namespace espalier::cli
