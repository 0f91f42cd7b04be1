// What stands between the cells of a table.
//
// Threading:   pure functions.
#pragma once

#include <string_view>

#include "espalier/v1/data.pb.h"

namespace espalier::worker::data {

// Stands for "find it in the file".
inline constexpr char kFindDelimiter = '\0';

// As a job says it; kFindDelimiter where it says nothing.
char DelimiterOf(v1::DataSpec::Delimiter delimiter);

// For messages: "','", "';'", "a tab" or the character in quotes.
const char* DelimiterWord(char delimiter);
// "comma", "semicolon" or "tab".
const char* DelimiterName(char delimiter);

// The delimiter that a spreadsheet's first line "sep=;" names; kFindDelimiter for other lines.
// `line` has no line end.
char SeparatorLine(std::string_view line);

// The delimiter of a table that begins with `sample`: the one of comma, semicolon and tab, outside
// of quotes, that most lines have equally often; of several the one whose cells hold fewest of the
// others (numbers with a decimal comma, "1,5;2,5", speak for the semicolon), then the one that
// gives most cells. A comma when there is none of them.
char FindDelimiter(std::string_view sample);

}  // namespace espalier::worker::data
