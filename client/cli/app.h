// The command line: parses arguments, runs one command, reports its error.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "client/cli/interrupt.h"
#include "client/cli/output.h"

namespace espalier::cli {

struct Streams {
  std::ostream& out;
  std::ostream& err;
  Terminal out_terminal;
  Terminal err_terminal;
};

// `arguments` without the program's name. Returns the exit code, which is not 0 when standard
// output could not be written.
int RunCli(const std::vector<std::string>& arguments, const Streams& streams, Interrupt* interrupt);

}  // namespace espalier::cli
