#include "client/cli/output.h"

#include <algorithm>

#include "absl/strings/cord.h"
#include "absl/strings/str_split.h"
#include "client/cli/format.h"
#include "client/lib/client.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace espalier::cli {
namespace {

// Longer than any name and any sentence of ours; what is longer came from elsewhere.
constexpr size_t kMaxCellBytes = 4096;
constexpr int kMaxCellColumns = 300;

std::string Padded(const std::string& text, int width, bool right) {
  const std::string space(static_cast<size_t>(std::max(0, width - Columns(text))), ' ');
  return right ? space + text : text + space;
}

// Between columns.
constexpr int kGap = 2;
// A column of text is not narrower.
constexpr int kLeastWrapped = 16;

// The first `columns` characters of `text`.
std::string FrontOf(const std::string& text, int columns) {
  std::string front = text;
  while (Columns(front) > columns) front = base::Utf8Prefix(front, front.size() - 1);
  return front;
}

// A value without separators, controls or an end that nobody waits for.
std::string Cell(const std::string& text, const Terminal& terminal) {
  const std::string cell = base::PrintablePrefix(text, kMaxCellBytes);
  return terminal.is_tty ? FitTo(cell, kMaxCellColumns) : cell;
}

constexpr char kLinesUrl[] = "espalier/further_lines";

// Already printable, without line feeds of their own.
std::vector<std::string> FurtherLines(const absl::Status& status) {
  const auto payload = status.GetPayload(kLinesUrl);
  if (!payload.has_value()) return {};
  return absl::StrSplit(std::string(*payload), '\n');
}

std::string TextForPeople(const absl::Status& status, const Terminal& terminal) {
  constexpr size_t kShown = 50;
  // An interruption is what the user wanted.
  std::string text = status.code() == absl::StatusCode::kCancelled
                         ? std::string()
                         : Styled(terminal, "31", "error:") + " ";
  text += base::Printable(base::MessageOf(status)) + "\n";
  for (const std::string& line : FurtherLines(status)) text += fmt::format("  {}\n", line);
  const auto violations = client::ViolationsOf(status);
  for (size_t i = 0; i < std::min(violations.size(), kShown); ++i) {
    text += fmt::format("  {}{}{}\n", base::Printable(violations[i].field),
                        violations[i].field.empty() ? "" : ": ",
                        base::Printable(violations[i].description));
  }
  const size_t more =
      violations.size() - std::min(violations.size(), kShown) + client::ViolationsLeftOut(status);
  if (more > 0) text += fmt::format("  … and {} more\n", more);
  return text;
}

}  // namespace

std::vector<std::string> Wrapped(const std::string& text, int columns) {
  const std::string mark = text.find('\\') == std::string::npos ? "" : "> ";
  std::vector<std::string> lines;
  std::string rest = text;
  while (Columns(rest) > columns) {
    const std::string front = FrontOf(rest, columns);
    // A space behind the line ends it as well.
    const size_t space = rest.substr(0, front.size() + 1).rfind(' ');
    const size_t comma = front.rfind(',');
    size_t end = front.size();
    if (space != std::string::npos && space > mark.size()) end = space;
    if (comma != std::string::npos && (space == std::string::npos || comma > space)) {
      end = comma + 1;
    }
    lines.push_back(rest.substr(0, end));
    rest.erase(0, std::max<size_t>(end, 1));
    rest.erase(0, rest.find_first_not_of(' '));
    rest.insert(0, mark);
  }
  lines.push_back(rest);
  return lines;
}

void PrintData(std::ostream& out, Format format, const Json& value) {
  out << (format == Format::kYaml ? ToYaml(value) : ToJson(value));
}

void PrintData(std::ostream& out, Format format, const google::protobuf::Message& message) {
  PrintData(out, format, JsonOf(message));
}

bool Table::SaysNothing(const Rows& rows, size_t column) const {
  return columns_[column].drop > 0 && !rows.empty() &&
         std::all_of(rows.begin(), rows.end(),
                     [column](const auto& row) { return row[column] == "-"; });
}

std::vector<size_t> Table::Shown(const Rows& rows, std::vector<int>& widths, int columns) const {
  std::vector<size_t> shown;
  for (size_t i = 0; i < columns_.size(); ++i) {
    if (!SaysNothing(rows, i)) shown.push_back(i);
  }
  const auto total = [&] {
    int sum = static_cast<int>(shown.size() - 1) * kGap;
    for (const size_t i : shown) {
      sum += columns_[i].wrap ? std::min(widths[i], kLeastWrapped) : widths[i];
    }
    return sum;
  };
  while (total() > columns) {
    const auto least = std::max_element(shown.begin(), shown.end(), [&](size_t a, size_t b) {
      return columns_[a].drop < columns_[b].drop;
    });
    if (columns_[*least].drop == 0) break;
    shown.erase(least);
  }
  // What is left over is for text, one column after the other.
  int left = std::max(0, columns - total());
  for (const size_t i : shown) {
    if (!columns_[i].wrap || widths[i] <= kLeastWrapped) continue;
    const int more = std::min(left, widths[i] - kLeastWrapped);
    widths[i] = kLeastWrapped + more;
    left -= more;
  }
  return shown;
}

void Table::Print(std::ostream& out, const Terminal& terminal) const {
  Rows rows = rows_;
  for (auto& row : rows) {
    for (std::string& value : row) value = Cell(value, terminal);
  }
  if (!terminal.is_tty) {
    for (const auto& row : rows) out << fmt::format("{}\n", fmt::join(row, "\t"));
    return;
  }
  std::vector<std::string> titles;
  std::vector<int> widths;
  for (size_t i = 0; i < columns_.size(); ++i) {
    titles.push_back(Cell(columns_[i].title, terminal));
    int width = Columns(titles[i]);
    for (const auto& row : rows) width = std::max(width, Columns(row[i]));
    widths.push_back(width);
  }
  const std::vector<size_t> shown = Shown(rows, widths, terminal.columns);
  const auto print = [&](const std::vector<std::string>& row, bool header) {
    std::vector<std::vector<std::string>> cells;
    size_t lines = 1;
    for (const size_t i : shown) {
      cells.push_back(Wrapped(row[i], widths[i]));
      lines = std::max(lines, cells.back().size());
    }
    for (size_t l = 0; l < lines; ++l) {
      std::string text;
      for (size_t k = 0; k < shown.size(); ++k) {
        text += std::string(k == 0 ? 0 : kGap, ' ');
        text += Padded(l < cells[k].size() ? cells[k][l] : "", widths[shown[k]],
                       columns_[shown[k]].right);
      }
      text.erase(text.find_last_not_of(' ') + 1);
      out << (header ? Styled(terminal, "1", text) : text) << "\n";
    }
  };
  print(titles, true);
  for (const auto& row : rows) print(row, false);
}

void PrintFields(std::ostream& out, const Terminal& terminal, const Fields& fields) {
  int width = 0;
  for (const auto& [name, value] : fields) width = std::max(width, Columns(Cell(name, terminal)));
  for (const auto& [name, value] : fields) {
    const std::string shown_name = Cell(name, terminal);
    const std::string shown_value = base::PrintablePrefix(value, kMaxCellBytes);
    if (!terminal.is_tty) {
      out << shown_name << "\t" << shown_value << "\n";
      continue;
    }
    std::string left = shown_name;
    for (const std::string& line :
         Wrapped(shown_value, std::max(kLeastWrapped, terminal.columns - width - kGap))) {
      out << Padded(left, width, false) << "  " << line << "\n";
      left.clear();
    }
  }
}

std::string Styled(const Terminal& terminal, const std::string& code, const std::string& text) {
  if (!terminal.color) return text;
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

absl::Status WithFurtherLines(const absl::Status& status, const std::vector<std::string>& lines) {
  std::vector<std::string> printable;
  printable.reserve(lines.size());
  for (const std::string& line : lines) printable.push_back(base::Printable(line));
  absl::Status result = status;
  result.SetPayload(kLinesUrl, absl::Cord(fmt::format("{}", fmt::join(printable, "\n"))));
  return result;
}

std::string ErrorText(const absl::Status& status, Format format, const Terminal& terminal) {
  if (format == Format::kTable || format == Format::kCsv) return TextForPeople(status, terminal);
  Json json;
  json["code"] = absl::StatusCodeToString(status.code());
  json["reason"] = base::ReasonOf(status);
  std::string message = base::MessageOf(status);
  for (const std::string& line : FurtherLines(status)) message += "\n" + line;
  json["message"] = message;
  json["violations"] = Json::array();
  for (const config::Violation& violation : client::ViolationsOf(status)) {
    json["violations"].push_back(
        {{"field", violation.field}, {"description", violation.description}});
  }
  if (const size_t left_out = client::ViolationsLeftOut(status); left_out > 0) {
    json["violations_left_out"] = left_out;
  }
  return ToJson(json);
}

}  // namespace espalier::cli
