// The `espalier` program.
#include <sys/ioctl.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <iostream>
#include <string_view>

#include "client/cli/app.h"
#include "common/rpc/process.h"

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
  // As for other programs, the variable has the last word.
  const char* columns = std::getenv("COLUMNS");
  const std::string_view word = columns == nullptr ? std::string_view() : columns;
  int number = 0;
  const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
  if (error == std::errc() && end == word.data() + word.size() && number > 0) {
    terminal.columns = number;
  }
  return terminal;
}

}  // namespace

int main(int argc, char** argv) {
  espalier::rpc::PrepareProcess();
  espalier::cli::Interrupt interrupt;
  const espalier::cli::Streams streams{std::cout, std::cerr, Inspect(STDOUT_FILENO),
                                       Inspect(STDERR_FILENO)};
  return espalier::cli::RunCli(std::vector<std::string>(argv + 1, argv + argc), streams,
                               &interrupt);
}
