// The `espalier` program.
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string_view>

#include "client/cli/app.h"

namespace {

espalier::cli::Terminal Inspect(int descriptor) {
  espalier::cli::Terminal terminal;
  const char* term = std::getenv("TERM");
  const char* no_color = std::getenv("NO_COLOR");
  const bool dumb = term == nullptr || std::string_view(term) == "dumb";
  terminal.is_tty = isatty(descriptor) != 0 && !dumb;
  terminal.color = terminal.is_tty && (no_color == nullptr || *no_color == '\0');
  winsize size{};
  if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 && size.ws_row > 0) {
    terminal.columns = size.ws_col;
    terminal.rows = size.ws_row;
  }
  return terminal;
}

}  // namespace

int main(int argc, char** argv) {
  // gRPC's own lines on standard error say less than our one paragraph. Before the first thread:
  // setenv is not thread-safe. The processes of `up` and `demo` inherit it.
  setenv("GRPC_VERBOSITY", "NONE", /*overwrite=*/0);
  espalier::cli::Interrupt interrupt;
  const espalier::cli::Streams streams{std::cout, std::cerr, Inspect(STDOUT_FILENO),
                                       Inspect(STDERR_FILENO)};
  return espalier::cli::RunCli(std::vector<std::string>(argv + 1, argv + argc), streams,
                               &interrupt);
}
