// Numbers in text files.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

namespace espalier::worker::data {

// The whole of `text` as a number, perhaps with a plus sign before it.
template <typename T>
std::optional<T> ParseWhole(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace espalier::worker::data
