// Whether the first line of a table of labelled examples names its columns. Internal to
// worker/data.
//
// Rule:        it does when
//              - it has a word for a label, and the second line a whole number;
//              - at least half of its cells of features are words, and the second line has numbers
//                (or gaps) in some of these columns;
//              - its cells of features are their own places (0, 1, 2, …, as pandas names columns)
//                and its label is a word.
//              It is unclear when all cells of three or more are their own places, and when the
//              second line has words wherever the first one has. Otherwise it is an example, so
//              that one bad cell in a first line of numbers is an error of the data.
// Threading:   pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace espalier::worker::data {

enum class FirstRow { kHeader, kExample, kUnclear };

// `second` is null when the table has one line only; `label` is the place of the label;
// first.size(): there is none.
FirstRow JudgeFirstRow(const std::vector<std::string_view>& first,
                       const std::vector<std::string_view>* second, size_t label);

// The names that a header's cells give to the columns. Every column has a name of its own: one
// without gets "column 3", and the second of two alike "name#2".
std::vector<std::string> UniqueNames(const std::vector<std::string_view>& cells);

// The first names in quotes, and how many more there are, for messages.
std::string SomeOf(const std::vector<std::string>& names);

}  // namespace espalier::worker::data
