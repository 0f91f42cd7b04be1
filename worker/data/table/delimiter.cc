#include "worker/data/table/delimiter.h"

#include <algorithm>
#include <array>
#include <string>
#include <tuple>
#include <vector>

namespace espalier::worker::data {
namespace {

constexpr std::array kDelimiters = {',', ';', '\t'};
constexpr size_t kMostLines = 50;

bool IsDelimiter(char c) { return std::ranges::find(kDelimiters, c) != kDelimiters.end(); }
bool IsLineEnd(char c) { return c == '\n' || c == '\r'; }
bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// What one delimiter would make of one line.
struct Cells {
  size_t delimiters = 0;
  size_t odd = 0;  // cells that hold another delimiter and are no number with a decimal comma
};

// [+-]digits,digits with blanks around
bool IsDecimalComma(std::string_view cell) {
  const size_t begin = cell.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return false;
  cell = cell.substr(begin, cell.find_last_not_of(" \t") - begin + 1);
  if (cell.starts_with('-') || cell.starts_with('+')) cell.remove_prefix(1);
  const size_t comma = cell.find(',');
  if (comma == std::string_view::npos) return false;
  return std::ranges::all_of(cell.substr(0, comma), IsDigit) && comma + 1 < cell.size() &&
         std::ranges::all_of(cell.substr(comma + 1), IsDigit);
}

// Lines with what is in quotes blanked out, so that only delimiters that count are left.
std::vector<std::string> UnquotedLines(std::string_view sample) {
  std::vector<std::string> lines;
  std::string line;
  bool quoted = false;
  bool cell_begins = true;
  const auto end_line = [&] {
    if (line.find_first_not_of(" \t") != std::string::npos) lines.push_back(line);
    line.clear();
    cell_begins = true;
  };
  for (const char c : sample) {
    if (lines.size() == kMostLines) return lines;
    if (quoted) {
      quoted = c != '"';
      if (c == '"') cell_begins = true;  // a doubled quote opens the next part of the same cell
      continue;
    }
    if (c == '"' && cell_begins) {
      quoted = true;
      line += '"';
    } else if (IsLineEnd(c)) {
      end_line();
    } else {
      line += c;
      cell_begins = IsDelimiter(c) || (cell_begins && c == ' ');
    }
  }
  // The last line may be cut, or be the only one.
  if (lines.empty()) end_line();
  return lines;
}

Cells Measure(std::string_view line, char delimiter) {
  Cells cells;
  for (;;) {
    const size_t end = line.find(delimiter);
    const std::string_view cell = line.substr(0, end);
    if (std::ranges::any_of(cell, IsDelimiter) && !IsDecimalComma(cell)) ++cells.odd;
    if (end == std::string_view::npos) return cells;
    ++cells.delimiters;
    line.remove_prefix(end + 1);
  }
}

// How well a delimiter explains the lines; the largest is taken.
std::tuple<size_t, int64_t, size_t> Score(const std::vector<std::string>& lines, char delimiter) {
  std::vector<size_t> counts;
  int64_t odd = 0;
  for (const std::string& line : lines) {
    const Cells cells = Measure(line, delimiter);
    odd += static_cast<int64_t>(cells.odd);
    if (cells.delimiters > 0) counts.push_back(cells.delimiters);
  }
  std::ranges::sort(counts);
  size_t agreeing = 0;
  size_t usual = 0;
  for (size_t begin = 0; begin < counts.size();) {
    const auto end = std::ranges::upper_bound(counts, counts[begin]) - counts.begin();
    if (end - begin > agreeing) {
      agreeing = end - begin;
      usual = counts[begin];
    }
    begin = end;
  }
  return {agreeing, -odd, usual};
}

}  // namespace

char DelimiterOf(v1::DataSpec::Delimiter delimiter) {
  switch (delimiter) {
    case v1::DataSpec::DELIMITER_COMMA:
      return ',';
    case v1::DataSpec::DELIMITER_SEMICOLON:
      return ';';
    case v1::DataSpec::DELIMITER_TAB:
      return '\t';
    default:
      return kFindDelimiter;
  }
}

const char* DelimiterWord(char delimiter) {
  switch (delimiter) {
    case '\t':
      return "a tab";
    case ';':
      return "';'";
    case '|':
      return "'|'";
    default:
      return "','";
  }
}

const char* DelimiterName(char delimiter) {
  if (delimiter == '\t') return "tab";
  return delimiter == ';' ? "semicolon" : "comma";
}

char SeparatorLine(std::string_view line) {
  if (line.size() >= 2 && line.front() == '"' && line.back() == '"') {
    line = line.substr(1, line.size() - 2);
  }
  constexpr std::string_view kBegin = "sep=";
  if (line.size() != kBegin.size() + 1 || !IsDelimiter(line.back())) return kFindDelimiter;
  for (size_t i = 0; i < kBegin.size(); ++i) {
    const char c = line[i];
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    if (lower != kBegin[i]) return kFindDelimiter;
  }
  return line.back();
}

char FindDelimiter(std::string_view sample) {
  const std::vector<std::string> lines = UnquotedLines(sample);
  char best = ',';
  auto best_score = Score(lines, best);
  for (const char candidate : {';', '\t'}) {
    const auto score = Score(lines, candidate);
    if (score > best_score) {
      best = candidate;
      best_score = score;
    }
  }
  return best;
}

}  // namespace espalier::worker::data
