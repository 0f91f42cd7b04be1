// HelpFormatter: how --help looks. At most 80 columns; ranges and defaults as words.
//
// An option is one entry "--workers N   Number of workers, 1 to 64 (default 3)". Descriptions of
// commands carry examples below their first line; lists of commands show the first line only.
// Options of the root are listed in its own help; that of a command points there.
#pragma once

#include <string>

#include "CLI/CLI.hpp"

namespace espalier::cli {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();

  std::string make_description(const CLI::App* app) const override;
  std::string make_subcommands(const CLI::App* app, CLI::AppFormatMode mode) const override;
  std::string make_subcommand(const CLI::App* sub) const override;
  std::string make_option(const CLI::Option* option, bool is_positional) const override;
  std::string make_footer(const CLI::App* app) const override;

 private:
  // "  left    text", the text wrapped.
  std::string Entry(const std::string& left, const std::string& text) const;
};

}  // namespace espalier::cli
