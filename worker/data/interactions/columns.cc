#include "worker/data/interactions/columns.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>
#include <span>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/interactions/cells.h"
#include "worker/data/interactions/times.h"

namespace espalier::worker::data {
namespace {

// Without case and punctuation.
constexpr auto kUserNames = std::to_array<std::string_view>(
    {"user", "userid", "uid", "username", "usernumber", "reviewerid", "reviewer", "visitorid",
     "visitor", "customer", "customerid", "customernumber", "member", "memberid", "profilename",
     "profileid", "personid"});
constexpr auto kItemNames = std::to_array<std::string_view>(
    {"item",       "itemid",    "iid",       "itemname", "movie",   "movieid", "asin",
     "parentasin", "product",   "productid", "book",     "bookid",  "isbn",    "business",
     "businessid", "song",      "songid",    "track",    "trackid", "artist",  "artistid",
     "article",    "articleid", "news",      "newsid",   "game",    "gameid",  "video",
     "videoid",    "recipeid",  "placeid",   "poi"});
constexpr auto kRatingNames =
    std::to_array<std::string_view>({"rating", "ratings", "score", "scores", "stars", "star",
                                     "overall", "value", "bookrating", "starrating"});
constexpr auto kTimeNames = std::to_array<std::string_view>(
    {"time", "timestamp", "unixtime", "unixreviewtime", "date", "datetime", "ts", "reviewtime",
     "eventtime", "createdat", "created", "reviewdate", "timestampms", "localtime"});

constexpr auto kTypes =
    std::to_array<std::string_view>({":token", ":float", ":token_seq", ":float_seq"});
constexpr size_t kMostUnnamed = 4;

std::string NormalName(std::string_view name) {
  std::string normal;
  for (const char c : WithoutType(name)) {
    const bool upper = c >= 'A' && c <= 'Z';
    const bool ascii = static_cast<unsigned char>(c) < 0x80;
    if (upper) {
      normal += static_cast<char>(c - 'A' + 'a');
    } else if ((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || !ascii) {
      normal += c;
    }
  }
  return normal;
}

std::vector<std::string> NormalNames(const Cells& cells) {
  std::vector<std::string> names;
  names.reserve(cells.size());
  for (const std::string_view cell : cells) names.push_back(NormalName(cell));
  return names;
}

// The first column with the earliest of `known`; −1: none.
int Find(const std::vector<std::string>& names, std::span<const std::string_view> known) {
  for (const std::string_view name : known) {
    const auto found = std::ranges::find(names, name);
    if (found != names.end()) return static_cast<int>(found - names.begin());
  }
  return -1;
}

// The error when another column has the name of column `found` as well.
absl::Status CheckOnce(const std::string& file, int64_t line, const Cells& cells,
                       const std::vector<std::string>& names, int found) {
  if (found < 0 || std::ranges::count(names, names[found]) == 1) return absl::OkStatus();
  const auto other = std::find(names.begin() + found + 1, names.end(), names[found]);
  return DatasetInvalid(
      file,
      {fmt::format("line {}", line), fmt::format("one column of the name {}", Quote(cells[found])),
       fmt::format("columns {} and {}, {} and {}", found + 1, other - names.begin() + 1,
                   Quote(cells[found]), Quote(cells[other - names.begin()])),
       "rename the one that is not meant"});
}

bool IsTyped(const Cells& cells) {
  return std::ranges::all_of(
      cells, [](std::string_view cell) { return WithoutType(cell).size() < cell.size(); });
}

std::string Quoted(const Cells& cells) {
  std::vector<std::string> quoted;
  for (const std::string_view cell : cells) quoted.push_back(Quote(cell));
  return fmt::format("{}", fmt::join(quoted, ", "));
}

bool IsNumber(std::string_view cell) { return ParseNumber<double>(cell).has_value(); }

bool IsValue(std::string_view cell) {
  return IsMissing(cell) || ParseTime(cell).has_value() || IsNumber(cell);
}

bool IsWhole(std::string_view cell) {
  return !cell.empty() && std::ranges::all_of(cell, [](char c) { return c >= '0' && c <= '9'; });
}

bool HasDigit(std::string_view cell) {
  return std::ranges::any_of(cell, [](char c) { return c >= '0' && c <= '9'; });
}

// Gives the columns that no name has taken to what is still without one, in the usual order.
void FillByOrder(Columns& columns) {
  std::vector<bool> taken(columns.count);
  for (const int column : {columns.user, columns.item, columns.rating, columns.time}) {
    if (column >= 0) taken[column] = true;
  }
  size_t next = 0;
  for (int* column : {&columns.user, &columns.item, &columns.rating, &columns.time}) {
    if (*column >= 0) continue;
    while (next < columns.count && taken[next]) ++next;
    if (next == columns.count) return;
    *column = static_cast<int>(next++);
  }
}

}  // namespace

std::string_view WithoutType(std::string_view name) {
  for (const std::string_view type : kTypes) {
    if (name.size() > type.size() && name.ends_with(type)) {
      name.remove_suffix(type.size());
      return name;
    }
  }
  return name;
}

bool IsSequence(std::string_view name) {
  return WithoutType(name).size() < name.size() && name.ends_with("_seq");
}

Columns UsualColumns(size_t count) {
  Columns columns;
  columns.count = count;
  if (count > 2) columns.rating = 2;
  if (count > 3) columns.time = 3;
  return columns;
}

absl::StatusOr<Columns> NamedColumns(const std::string& file, int64_t line, const Cells& cells) {
  const std::vector<std::string> names = NormalNames(cells);
  Columns columns;
  columns.count = cells.size();
  columns.names.assign(cells.begin(), cells.end());
  columns.user = Find(names, kUserNames);
  columns.item = Find(names, kItemNames);
  columns.rating = Find(names, kRatingNames);
  columns.time = Find(names, kTimeNames);
  columns.rating_is_named = columns.rating >= 0;
  columns.time_is_named = columns.time >= 0;
  for (const int column : {columns.user, columns.item, columns.rating, columns.time}) {
    ESPALIER_RETURN_IF_ERROR(CheckOnce(file, line, cells, names, column));
  }
  if (columns.user >= 0 && columns.item >= 0) return columns;
  if (cells.size() > kMostUnnamed) {
    return DatasetInvalid(
        file, {fmt::format("line {}", line),
               "a header that names the columns user and item, such as user_id and item_id",
               Quoted(cells), "add one: there are more than 4 columns"});
  }
  FillByOrder(columns);
  if (columns.user >= 0 && columns.item >= 0) return columns;
  return DatasetInvalid(file, {fmt::format("line {}", line), "columns for user and item",
                               Quoted(cells), "rename the columns, or add the missing one"});
}

std::string Describe(const Columns& columns) {
  if (!columns.names.empty()) {
    Cells names(columns.names.begin(), columns.names.end());
    return "the columns " + Quoted(names);
  }
  const char* const words[] = {"user", "item", "rating", "time"};
  return fmt::format("{} columns without a header: {}", columns.count,
                     fmt::join(words, words + std::min<size_t>(columns.count, 4), ", "));
}

bool NamesUserAndItem(const Cells& cells) {
  const std::vector<std::string> names = NormalNames(cells);
  return Find(names, kUserNames) >= 0 && Find(names, kItemNames) >= 0;
}

FirstLine LookAtFirstLine(const Cells& cells, const Columns& columns) {
  if (IsTyped(cells) || NamesUserAndItem(cells)) return FirstLine::kHeader;
  if (IsNumber(cells[columns.user]) || IsNumber(cells[columns.item])) {
    return FirstLine::kInteraction;
  }
  if (columns.rating < 0 && columns.time < 0) return FirstLine::kUnclear;
  const int value = columns.rating >= 0 ? columns.rating : columns.time;
  return IsValue(cells[value]) ? FirstLine::kInteraction : FirstLine::kHeader;
}

void UnclearHeader::Compare(std::string_view cell, Column& column) {
  column.comes_again |= cell == column.first;
  column.all_whole = column.all_whole && IsWhole(cell);
  column.all_have_digits = column.all_have_digits && HasDigit(cell);
}

void UnclearHeader::Compare(std::string_view user, std::string_view item) {
  has_others_ = true;
  Compare(user, first_[0]);
  Compare(item, first_[1]);
}

FirstLine UnclearHeader::Decide() const {
  if (!has_others_ || first_[0].comes_again || first_[1].comes_again) {
    return FirstLine::kInteraction;
  }
  bool alike = false;
  for (const Column& column : first_) {
    if (column.all_whole || (column.all_have_digits && !HasDigit(column.first))) {
      return FirstLine::kHeader;
    }
    alike |= column.all_have_digits;
  }
  return alike ? FirstLine::kInteraction : FirstLine::kUnclear;
}

absl::StatusOr<int> IdColumn(const std::string& file, int64_t line, const Cells& cells,
                             bool of_items) {
  const std::vector<std::string> names = NormalNames(cells);
  const int found = of_items ? Find(names, kItemNames) : Find(names, kUserNames);
  ESPALIER_RETURN_IF_ERROR(CheckOnce(file, line, cells, names, found));
  return found;
}

}  // namespace espalier::worker::data
