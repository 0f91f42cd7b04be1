#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

// Checks of command-line flags, for CLI11's Option::check(): an error, or nothing. CLI11 has such
// checks, too, but their words change with its version. Pure functions; any thread.
namespace espalier::base {

using FlagCheck = std::function<std::string(const std::string&)>;

// Finite numbers from `low` to `high`, both included. Whole ones as 0 or -12 only: CLI11 would read
// 010 as 8.
template <typename Number>
FlagCheck Between(Number low, Number high) {
  return [low, high](const std::string& word) -> std::string {
    constexpr bool kWhole = std::is_integral_v<Number>;
    Number value{};
    bool number = false;
    if constexpr (kWhole) {
      number = absl::SimpleAtoi(word, &value) && absl::StrCat(value) == word;
    } else {
      number = absl::SimpleAtod(word, &value) && absl::StripAsciiWhitespace(word) == word;
    }
    if (number && value >= low && value <= high) return "";
    return absl::StrCat("expected a ", kWhole ? "whole " : "", "number from ", low, " to ", high,
                        ", found \"", absl::Utf8SafeCEscape(word), "\"");
  };
}

inline FlagCheck OneOf(std::vector<std::string> words) {
  return [words = std::move(words)](const std::string& word) -> std::string {
    if (std::find(words.begin(), words.end(), word) != words.end()) return "";
    return absl::StrCat("expected one of ", absl::StrJoin(words, ", "), "; found \"",
                        absl::Utf8SafeCEscape(word), "\"");
  };
}

}  // namespace espalier::base
