#include "worker/data/table/csv_header.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdint>
#include <map>

#include "worker/data/errors.h"
#include "worker/data/table/cells.h"

namespace espalier::worker::data {
namespace {

constexpr size_t kShownNames = 8;

using Cells = std::vector<std::string_view>;

bool IsWord(std::string_view cell) {
  return !IsMissing(cell) && !ParseNumber<double>(cell).has_value();
}

bool IsWhole(std::string_view cell) { return ParseNumber<int64_t>(cell).has_value(); }

bool IsItsPlace(const Cells& cells, size_t place) {
  return ParseNumber<int64_t>(cells[place]) == static_cast<int64_t>(place);
}

}  // namespace

FirstRow JudgeFirstRow(const Cells& first, const Cells* second, size_t label) {
  const auto second_has = [&](size_t place, const auto& is) {
    return second != nullptr && place < second->size() && is((*second)[place]);
  };
  size_t words = 0;
  size_t unlike = 0;  // words where the second line has none
  bool places = true;
  for (size_t i = 0; i < first.size(); ++i) {
    if (i == label) continue;
    places = places && IsItsPlace(first, i);
    if (!IsWord(first[i])) continue;
    ++words;
    if (!second_has(i, IsWord)) ++unlike;
  }
  const bool label_is_word = label < first.size() && IsWord(first[label]);
  if (label_is_word && (places || second_has(label, IsWhole))) return FirstRow::kHeader;
  constexpr size_t kNotByChance = 3;
  const bool label_too = label >= first.size() || IsItsPlace(first, label);
  if (places && first.size() >= kNotByChance && label_too) {
    return FirstRow::kUnclear;
  }
  if (words == 0 || 2 * words + 1 < first.size()) return FirstRow::kExample;
  return unlike > 0 ? FirstRow::kHeader : FirstRow::kUnclear;
}

std::string SomeOf(const std::vector<std::string>& names) {
  std::vector<std::string> shown;
  for (const std::string& name : names) {
    if (shown.size() == kShownNames) break;
    shown.push_back(Quote(name));
  }
  std::string text = fmt::format("{}", fmt::join(shown, ", "));
  if (names.size() > shown.size()) text += fmt::format(" and {} more", names.size() - shown.size());
  return text;
}

std::vector<std::string> UniqueNames(const std::vector<std::string_view>& cells) {
  std::vector<std::string> names;
  std::map<std::string, int> seen;
  for (size_t i = 0; i < cells.size(); ++i) {
    std::string name = cells[i].empty() ? fmt::format("column {}", i + 1) : std::string(cells[i]);
    const int times = ++seen[name];
    names.push_back(times == 1 ? name : fmt::format("{}#{}", name, times));
  }
  return names;
}

}  // namespace espalier::worker::data
