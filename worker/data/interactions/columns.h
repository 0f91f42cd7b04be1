// Which column of a table holds the user, which the item, the rating and the time; and whether the
// first line of a table names them. Internal to this folder.
//
// Names:       compared without regard to case, blanks and punctuation, and without RecBole's types
//              ("user_id:token"). Of several names that are known the first of the list below
//              counts. The lists are documented in docs/interactions-of-users.md.
// Header:      a first line that names a user and an item, or whose cells all have a type of
//              RecBole, or that has a word where ratings or times are expected. Numbers are never
//              names. Of two columns of words, see UnclearHeader.
// Order:       columns without known names are taken in the usual order: user, item, rating, time.
// Threading:   pure functions; UnclearHeader is not thread-safe.
// Errors:      DATASET_INVALID naming the file, what the header has and the fix.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::worker::data {

using Cells = std::vector<std::string_view>;

struct Columns {
  int user = 0;
  int item = 1;
  int rating = -1;  // −1: none
  int time = -1;
  // Found by their names. Of a column that only its place makes one, every cell is checked.
  bool rating_is_named = false;
  bool time_is_named = false;
  size_t count = 0;                // cells of a line; 0: not known yet
  std::vector<std::string> names;  // of a header; none without
};

// Of a file without header. `count` is 2 to 4.
Columns UsualColumns(size_t count);

// As the header `cells` of `file` says.
absl::StatusOr<Columns> NamedColumns(const std::string& file, int64_t line, const Cells& cells);

// "'user', 'item'", or what the places are without a header; for messages.
std::string Describe(const Columns& columns);

enum class FirstLine { kHeader, kInteraction, kUnclear };

// What the first line of a table is, as far as it tells itself. `columns` are those that it has if
// it is an interaction.
FirstLine LookAtFirstLine(const Cells& cells, const Columns& columns);

// Whether the header names a user and an item.
bool NamesUserAndItem(const Cells& cells);

// Compares the first line, when its user and item are words, with all others. An id that comes
// again makes it an interaction; else a header differs from ids: they all are whole numbers, or all
// have digits, and it has none.
class UnclearHeader {
 public:
  UnclearHeader(std::string_view user, std::string_view item)
      : first_{{Column(user), Column(item)}} {}

  void Compare(std::string_view user, std::string_view item);
  // After the last line. A single line is an interaction.
  FirstLine Decide() const;

 private:
  struct Column {
    explicit Column(std::string_view cell) : first(cell) {}
    std::string first;
    bool comes_again = false;
    bool all_whole = true;
    bool all_have_digits = true;
  };
  static void Compare(std::string_view cell, Column& column);

  std::array<Column, 2> first_;
  bool has_others_ = false;
};

// The column of users (items) of a table of fields, by its name; −1: none.
absl::StatusOr<int> IdColumn(const std::string& file, int64_t line, const Cells& cells,
                             bool of_items);

// A name of a header without its type.
std::string_view WithoutType(std::string_view name);
// Whether RecBole's type says that cells hold several values with blanks between.
bool IsSequence(std::string_view name);

}  // namespace espalier::worker::data
