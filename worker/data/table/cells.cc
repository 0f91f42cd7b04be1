#include "worker/data/table/cells.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/ascii.h"

namespace espalier::worker::data {
namespace {

constexpr std::string_view kBlank = " \t";
constexpr std::array<std::string_view, 7> kMissing = {"", "na", "n/a", "nan", "null", "none", "?"};
// What people write around and between the digits of a number: blanks, marks of thousands, percent
// signs, and in UTF-8 the no-break spaces and the minus sign.
constexpr std::string_view kAroundDigits = " .,'_%+-\xC2\xA0\xE2\x80\xAF\x88\x92";

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

// 2024-01-31, 31.1.2024 or 1/31/24, perhaps with a time of the day after it.
bool IsDate(std::string_view cell) {
  cell = cell.substr(0, cell.find_first_of(" T"));
  size_t parts = 0;
  char between = '\0';
  while (!cell.empty()) {
    const auto* const end = std::ranges::find_if_not(cell, IsDigit);
    const auto digits = static_cast<size_t>(end - cell.begin());
    if (digits != 1 && digits != 2 && digits != 4) return false;
    ++parts;
    cell.remove_prefix(digits);
    if (cell.empty()) break;
    if (between != '\0' && cell.front() != between) return false;
    between = cell.front();
    if (between != '-' && between != '/' && between != '.') return false;
    cell.remove_prefix(1);
  }
  constexpr size_t kPartsOfDate = 3;
  return parts == kPartsOfDate;
}

}  // namespace

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

std::optional<double> ParseFinite(std::string_view text) {
  const auto value = ParseNumber<double>(text);
  return value.has_value() && std::isfinite(*value) ? value : std::nullopt;
}

bool IsMissing(std::string_view cell) {
  const std::string lower = absl::AsciiStrToLower(std::string(cell));
  return std::ranges::find(kMissing, lower) != kMissing.end();
}

std::optional<int64_t> ParseWhole(std::string_view text) {
  if (const auto number = ParseNumber<int64_t>(text)) return number;
  constexpr double kExact = 9007199254740992;  // 2^53
  const auto number = ParseFinite(text);
  if (!number.has_value() || std::abs(*number) > kExact || *number != std::trunc(*number)) {
    return std::nullopt;
  }
  return static_cast<int64_t>(*number);
}

bool BeginsComment(std::string_view cell) { return cell.starts_with('#') || cell.starts_with('%'); }

const char* AdviceOnNumber(std::string_view cell) {
  if (IsDate(cell)) {
    return "write dates as numbers, for instance as days since the first one, or remove the column";
  }
  std::string_view unsigned_cell = cell;
  if (cell.starts_with('-') || cell.starts_with('+')) unsigned_cell.remove_prefix(1);
  double value = 0;
  const auto [end, error] =
      std::from_chars(unsigned_cell.data(), unsigned_cell.data() + unsigned_cell.size(), value);
  if (error != std::errc::invalid_argument && end == unsigned_cell.data() + unsigned_cell.size()) {
    return "put a number of at most 3.4e38 there, or leave the line out";
  }
  const bool odd = std::ranges::any_of(cell, IsDigit) && std::ranges::all_of(cell, [](char c) {
                     return IsDigit(c) || kAroundDigits.find(c) != std::string_view::npos;
                   });
  if (odd) {
    return "write numbers like -1234.5: with a decimal point, without marks of thousands, blanks "
           "and percent signs";
  }
  return "";
}

}  // namespace espalier::worker::data
