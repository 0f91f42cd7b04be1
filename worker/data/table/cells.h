// What a cell of a table holds. Internal to worker/data.
//
// Threading:   pure functions.
#pragma once

#include <charconv>
#include <cstdint>
#include <optional>
#include <string_view>
#include <system_error>

namespace espalier::worker::data {

// Without blanks around it.
std::string_view Trim(std::string_view text);

// All of `text` as a number, perhaps with a plus sign before it.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}
// Neither NaN nor infinity.
std::optional<double> ParseFinite(std::string_view text);
// Whether a cell stands for a value that is not there: empty, NA, N/A, NaN, null, None or ?.
bool IsMissing(std::string_view cell);

// The whole number that `text` stands for, also as "2.0" and "2e0".
std::optional<int64_t> ParseWhole(std::string_view text);
// Whether a line that begins with this cell is a comment: by '#' or '%'.
bool BeginsComment(std::string_view cell);
// What to do about a cell of features that is no number; "" where it is a word like any other.
const char* AdviceOnNumber(std::string_view cell);

}  // namespace espalier::worker::data
