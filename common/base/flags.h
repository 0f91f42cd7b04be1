#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

// Checks of command-line flags, for CLI11's Option::check(): an error, or nothing. CLI11 has such
// checks, too, but their words change with its version and show the limits of the type where there
// is no upper bound. Pure functions; any thread.
namespace espalier {

using FlagCheck = std::function<std::string(const std::string&)>;

template <typename Number>
bool ParseNumber(const std::string& word, Number& value) {
  if constexpr (std::is_floating_point_v<Number>) {
    return absl::SimpleAtod(word, &value);
  } else {
    return absl::SimpleAtoi(word, &value);
  }
}

// Numbers from `low` to `high`, both included; not NaN.
template <typename Number>
FlagCheck Between(Number low, Number high) {
  return [low, high](const std::string& word) -> std::string {
    Number value{};
    if (ParseNumber(word, value) && value >= low && value <= high) return "";
    return absl::StrCat("expected ", low, " to ", high, ", found \"", absl::Utf8SafeCEscape(word),
                        "\"");
  };
}

template <typename Number>
FlagCheck AtLeast(Number low) {
  return [low](const std::string& word) -> std::string {
    Number value{};
    if (ParseNumber(word, value) && value >= low) return "";
    return absl::StrCat("expected ", low, " or more, found \"", absl::Utf8SafeCEscape(word), "\"");
  };
}

inline FlagCheck OneOf(std::vector<std::string> words) {
  return [words = std::move(words)](const std::string& word) -> std::string {
    if (std::find(words.begin(), words.end(), word) != words.end()) return "";
    return absl::StrCat("expected one of ", absl::StrJoin(words, ", "), "; found \"",
                        absl::Utf8SafeCEscape(word), "\"");
  };
}

}  // namespace espalier
