// What a cell of a table holds. Internal to worker/data.
//
// Threading:   pure functions.
#pragma once

#include <charconv>
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

}  // namespace espalier::worker::data
