#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

// Checks of command-line flags. CLI11 has such checks, too, but their words change with its version
// and show the limits of the type where there is no upper bound. Pure functions; any thread.
namespace espalier {

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
CLI::Validator Between(Number low, Number high) {
  const auto check = [low, high](std::string& word) -> std::string {
    Number value{};
    if (ParseNumber(word, value) && value >= low && value <= high) return "";
    return absl::StrCat("expected ", low, " to ", high, ", found \"", absl::Utf8SafeCEscape(word),
                        "\"");
  };
  return {check, ""};
}

template <typename Number>
CLI::Validator AtLeast(Number low) {
  const auto check = [low](std::string& word) -> std::string {
    Number value{};
    if (ParseNumber(word, value) && value >= low) return "";
    return absl::StrCat("expected ", low, " or more, found \"", absl::Utf8SafeCEscape(word), "\"");
  };
  return {check, ""};
}

inline CLI::Validator OneOf(std::vector<std::string> words) {
  const auto check = [words = std::move(words)](std::string& word) -> std::string {
    if (std::find(words.begin(), words.end(), word) != words.end()) return "";
    return absl::StrCat("expected one of ", absl::StrJoin(words, ", "), "; found \"",
                        absl::Utf8SafeCEscape(word), "\"");
  };
  return {check, ""};
}

}  // namespace espalier
