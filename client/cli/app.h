// The command line: parses arguments, runs one command, reports its error.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/interrupt.h"
#include "client/cli/output.h"
#include "common/config/parameters.h"

namespace espalier::cli {

struct Streams {
  std::ostream& out;
  std::ostream& err;
  Terminal out_terminal;
  Terminal err_terminal;
};

// `arguments` without the program's name. Returns the exit code.
int RunCli(const std::vector<std::string>& arguments, const Streams& streams, Interrupt* interrupt);

// An error as text for people, or as a JSON object for programs (kJson, kYaml).
std::string ErrorText(const absl::Status& status, Format format, const Terminal& terminal);

}  // namespace espalier::cli
