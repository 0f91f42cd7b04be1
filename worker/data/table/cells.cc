#include "worker/data/table/cells.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/ascii.h"

namespace espalier::worker::data {
namespace {

constexpr std::string_view kBlank = " \t";
constexpr std::array<std::string_view, 7> kMissing = {"", "na", "n/a", "nan", "null", "none", "?"};

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

}  // namespace espalier::worker::data
