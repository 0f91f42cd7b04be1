// Lines of tables as cells, and the names that columns and files have. Internal to this folder.
//
// Ownership:   cells point into the line.
// Threading:   pure functions.
#pragma once

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/data/sandbox.h"

namespace espalier::worker::data {

inline constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
inline constexpr std::array kUserNames = {"user", "user_id", "userid", "uid"};
inline constexpr std::array kItemNames = {"item",  "item_id",  "itemid", "iid",
                                          "movie", "movie_id", "movieid"};

// Without blanks around it.
std::string_view Trim(std::string_view text);
// ASCII letters only.
std::string Lower(std::string_view text);
// The cells of a line, without blanks and quotes around them.
void Split(std::string_view line, std::string_view separator, std::vector<std::string_view>& cells);
// The first of ",", ";" and a tab that is in the line; "," without.
std::string_view CsvSeparator(std::string_view line);

// The first column that has one of the names, in any case of letters; −1: none.
template <size_t N>
int FindColumn(const std::vector<std::string_view>& cells,
               const std::array<const char*, N>& names) {
  for (size_t i = 0; i < cells.size(); ++i) {
    const std::string cell = Lower(cells[i]);
    if (std::any_of(names.begin(), names.end(), [&](const char* name) { return cell == name; })) {
      return static_cast<int>(i);
    }
  }
  return -1;
}

// The file of this name, plain before compressed.
std::optional<std::string> FindFile(const std::vector<FileEntry>& files, const std::string& name);

// users.csv and items.csv say what is known of users and items: no interactions.
bool IsFieldTable(std::string_view file);

}  // namespace espalier::worker::data
