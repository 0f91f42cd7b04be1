#include "worker/data/table/csv_header.h"

#include <cstdint>

#include "worker/data/table/cells.h"

namespace espalier::worker::data {
namespace {

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
  if (places && first.size() >= kNotByChance && IsItsPlace(first, label)) {
    return FirstRow::kUnclear;
  }
  if (words == 0 || 2 * words + 1 < first.size()) return FirstRow::kExample;
  return unlike > 0 ? FirstRow::kHeader : FirstRow::kUnclear;
}

}  // namespace espalier::worker::data
