// Small things that readers of this folder share: cells of a line, numbers, files by name. Internal
// to this folder.
//
// Ownership:   cells point into the line.
// Threading:   pure functions.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/sandbox.h"

namespace espalier::worker::data {

// Without blanks around it.
std::string_view Trim(std::string_view text);
// The cells of a line, without blanks around them.
void SplitCells(std::string_view line, std::string_view separator,
                std::vector<std::string_view>& cells);

// All of `text` as a number.
template <typename T>
std::optional<T> ParseNumber(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}
// Neither NaN nor infinity.
std::optional<double> ParseFinite(std::string_view text);
// Whether a cell stands for a value that is not there: empty, NA, N/A, NaN, null, None or ?.
bool IsMissing(std::string_view cell);

// The file of this name, plain before compressed.
std::optional<std::string> FindFile(const std::vector<FileEntry>& files, const std::string& name);

// users.csv and items.csv say what is known of users and items: no interactions.
bool IsFieldTable(std::string_view file);

}  // namespace espalier::worker::data
