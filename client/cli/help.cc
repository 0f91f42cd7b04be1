#include "client/cli/help.h"

#include <algorithm>
#include <sstream>

#include "client/cli/format.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr int kWidth = 80;
constexpr int kTextColumn = 28;
// A space at which no line is broken, while text is wrapped.
constexpr char kGlue = '\x1f';

// For commands that talk to a coordinator: all in groups without a footer of their own.
constexpr char kGroupFooter[] =
    "Every command takes the options of `espalier --help`: --server, --output,\n"
    "--timeout and those for TLS. Exit codes are listed there, too.\n";
constexpr char kPlainFooter[] = "Environment and exit codes: espalier --help\n";

// The word for an option's value: numbers are N, whatever their range.
std::string ValueWord(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return type.starts_with("INT") || type.starts_with("UINT") ? "N" : type;
}

}  // namespace

HelpFormatter::HelpFormatter() {
  column_width(kTextColumn);
  label("SUBCOMMAND", "COMMAND");
  label("Positionals", "Arguments");
}

std::string HelpFormatter::make_description(const CLI::App* app) const {
  return app->get_description() + "\n\n";
}

std::string HelpFormatter::make_subcommands(const CLI::App* app, CLI::AppFormatMode) const {
  const auto commands = app->get_subcommands([](const CLI::App*) { return true; });
  if (commands.empty()) return "";
  std::string text = "\nCommands:\n";
  for (const CLI::App* command : commands) text += make_subcommand(command);
  return text;
}

std::string HelpFormatter::make_subcommand(const CLI::App* sub) const {
  const std::string& description = sub->get_description();
  return Entry(sub->get_name(), description.substr(0, description.find('\n')));
}

std::string HelpFormatter::make_option(const CLI::Option* option, bool is_positional) const {
  if (is_positional) return Entry(option->get_name(true, false), option->get_description());
  std::string left = option->get_name(false, true);
  if (option->get_type_size() != 0) left += " " + ValueWord(*option);
  std::string text = option->get_description();
  const std::string& standard = option->get_default_str();
  if (!standard.empty()) text += fmt::format(" (default{}{})", kGlue, standard);
  if (!option->get_envname().empty()) text += fmt::format(" [{}]", option->get_envname());
  return Entry(left, text);
}

std::string HelpFormatter::make_footer(const CLI::App* app) const {
  if (app->get_parent() == nullptr) return app->get_footer() + "\n";
  const CLI::App* root = app;
  while (root->get_parent() != nullptr) root = root->get_parent();
  // Commands have the root's unless their group has one of its own.
  if (app->get_footer() != root->get_footer()) return app->get_footer();
  const bool in_group = app->get_parent()->get_parent() != nullptr;
  const bool is_group = !app->get_subcommands([](const CLI::App*) { return true; }).empty();
  return in_group || is_group ? kGroupFooter : kPlainFooter;
}

std::string HelpFormatter::Entry(const std::string& left, const std::string& text) const {
  std::string entry = "  " + left;
  int column = Columns(entry);
  const auto next_line = [&] {
    entry += "\n";
    column = 0;
  };
  if (column + 2 > kTextColumn) next_line();
  std::istringstream words(text);
  for (std::string word; words >> word;) {
    if (column > kTextColumn && column + 1 + Columns(word) > kWidth) next_line();
    const int space = column < kTextColumn ? kTextColumn - column : 1;
    entry += std::string(static_cast<size_t>(space), ' ') + word;
    column += space + Columns(word);
  }
  std::replace(entry.begin(), entry.end(), kGlue, ' ');
  return entry + "\n";
}

}  // namespace espalier::cli
