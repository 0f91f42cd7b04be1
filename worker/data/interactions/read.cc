#include "worker/data/interactions/read.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/interactions/cells.h"

namespace espalier::worker::data {
namespace {

using Format = v1::Interactions;

constexpr int64_t kMaxInteractions = std::numeric_limits<int32_t>::max();
// So many that it is not by chance.
constexpr size_t kInteractionsWithOneTime = 1000;
// An interaction, its copies while repetitions are looked for, and its place in the lists.
constexpr size_t kBytesPerInteraction = 28;
constexpr size_t kBytesBesideName = 112;

template <typename T>
std::optional<T> Parse(std::string_view text) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<double> ParseFinite(std::string_view text) {
  const auto value = Parse<double>(text);
  return value.has_value() && std::isfinite(*value) ? value : std::nullopt;
}

constexpr std::array kRatingNames = {"rating", "score", "stars", "value"};
constexpr std::array kTimeNames = {"time", "timestamp", "date", "ts", "unixtime"};

std::string Line(int64_t line) { return fmt::format("line {}", line); }

const char* SeparatorWord(std::string_view separator) {
  if (separator == "\t") return "a tab";
  if (separator == "::") return "'::'";
  if (separator == ";") return "';'";
  return separator == "," ? "','" : "blanks";
}

absl::Status TooMany(const std::string& file, int64_t line_number) {
  return DatasetInvalid(
      file, {Line(line_number), fmt::format("at most {} interactions", kMaxInteractions), "more",
             "use a part of them"});
}

std::vector<std::string> WithEnding(const std::vector<FileEntry>& files, std::string_view beginning,
                                    const std::string& ending) {
  std::vector<std::string> names;
  for (const FileEntry& file : files) {
    if (file.name.starts_with(beginning) &&
        (file.name.ends_with(ending) || file.name.ends_with(ending + ".gz"))) {
      names.push_back(file.name);
    }
  }
  return names;
}

std::optional<InteractionFiles> FindMovieLens(const std::vector<FileEntry>& files) {
  if (const auto data = FindFile(files, "u.data")) {
    return InteractionFiles{Format::FORMAT_MOVIELENS, *data, ""};
  }
  const std::vector<std::string> ratings = WithEnding(files, "ratings", ".dat");
  if (ratings.size() == 1) return InteractionFiles{Format::FORMAT_MOVIELENS, ratings[0], ""};
  return std::nullopt;
}

std::optional<InteractionFiles> FindPair(const std::vector<FileEntry>& files,
                                         const std::string& ending, Format::Format format) {
  const auto train = FindFile(files, "train" + ending);
  if (!train.has_value()) return std::nullopt;
  return InteractionFiles{format, *train, FindFile(files, "test" + ending).value_or("")};
}

std::optional<InteractionFiles> FindCsv(const std::vector<FileEntry>& files) {
  if (auto pair = FindPair(files, ".csv", Format::FORMAT_CSV)) return pair;
  std::vector<std::string> names = WithEnding(files, "", ".csv");
  std::erase_if(names, [](const std::string& name) { return IsFieldTable(name); });
  if (names.size() == 1) return InteractionFiles{Format::FORMAT_CSV, names[0], ""};
  return std::nullopt;
}

}  // namespace

const char* InteractionFormatName(Format::Format format) {
  switch (format) {
    case Format::FORMAT_MOVIELENS:
      return "movielens";
    case Format::FORMAT_LIGHTGCN:
      return "lightgcn";
    default:
      return "interactions_csv";
  }
}

absl::StatusOr<InteractionFiles> FindInteractionFiles(const std::string& dataset,
                                                      const std::vector<FileEntry>& files,
                                                      Format::Format format) {
  const auto wanted = [&](Format::Format kind) {
    return format == Format::FORMAT_UNSPECIFIED || format == kind;
  };
  std::optional<InteractionFiles> found;
  if (wanted(Format::FORMAT_MOVIELENS)) found = FindMovieLens(files);
  if (!found && wanted(Format::FORMAT_LIGHTGCN)) {
    found = FindPair(files, ".txt", Format::FORMAT_LIGHTGCN);
  }
  if (!found && wanted(Format::FORMAT_CSV)) found = FindCsv(files);
  if (found) return *found;
  return DatasetInvalid(
      dataset, {"",
                "interactions as u.data, ratings.dat, train.txt (with test.txt), train.csv (with "
                "test.csv) or one single .csv",
                "no such file, or several",
                "give the files one of these names, or set data.interactions.format"});
}

int32_t Numbering::Of(std::string_view name) {
  const auto known = numbers_.find(name);
  if (known != numbers_.end()) return known->second;
  const auto number = static_cast<int32_t>(names_.size());
  names_.emplace_back(name);
  numbers_.emplace(names_.back(), number);
  // Twice, and what a vector and a hash table keep beside it.
  bytes_ += static_cast<int64_t>(2 * name.size() + kBytesBesideName);
  return number;
}

std::string_view InteractionReader::Separator(std::string_view line) const {
  if (format_ == Format::FORMAT_MOVIELENS) {
    return line.find("::") != std::string_view::npos ? "::" : "\t";
  }
  return CsvSeparator(line);
}

absl::Status InteractionReader::WrongSeparator(const std::string& file, int64_t line_number,
                                               std::string_view line) const {
  const char* expected = format_ == Format::FORMAT_MOVIELENS
                             ? "user, item, rating and time separated by tabs or '::'"
                             : "user and item, then if you like rating and time, separated by ','";
  return DatasetInvalid(
      file,
      {Line(line_number),
       columns_.count == 0 ? expected
                           : fmt::format("{} cells separated by {} as in the first line",
                                         columns_.count, SeparatorWord(separator_)),
       Quote(line),
       "use one separator in all of the file, or set data.interactions.format to what it is"});
}

absl::StatusOr<bool> InteractionReader::TakeHeader(const std::string& file, std::string_view line) {
  const int user = FindColumn(cells_, kUserNames);
  const int item = FindColumn(cells_, kItemNames);
  columns_.count = cells_.size();
  if (user >= 0 && item >= 0) {
    columns_.user = user;
    columns_.item = item;
    columns_.rating = FindColumn(cells_, kRatingNames);
    columns_.time = FindColumn(cells_, kTimeNames);
    return true;
  }
  if (cells_.size() > 4) {
    return DatasetInvalid(file, {Line(1), "a header that names the columns user and item",
                                 Quote(line), "add one: there are more than 4 columns"});
  }
  if (cells_.size() < 4) columns_.time = -1;
  if (cells_.size() < 3) columns_.rating = -1;
  // Names that are not known, in the usual order.
  return cells_.size() > 2 && !ParseFinite(cells_[2]).has_value();
}

absl::Status InteractionReader::ReadTableLine(const std::string& file, int64_t line_number,
                                              std::string_view line,
                                              std::vector<RawInteractions::Entry>& out) {
  if (separator_.empty()) separator_ = Separator(line);
  Split(line, separator_, cells_);
  const size_t least = format_ == Format::FORMAT_MOVIELENS ? 3 : 2;
  if (cells_.size() < least || (columns_.count != 0 && cells_.size() != columns_.count)) {
    return WrongSeparator(file, line_number, line);
  }
  if (columns_.count == 0) {
    ESPALIER_ASSIGN_OR_RETURN(const bool header, TakeHeader(file, line));
    if (header) return absl::OkStatus();
  }
  const auto complain = [&](int column, std::string_view expected) {
    const std::string_view cell = cells_[column];
    return DatasetInvalid(
        file, {fmt::format("line {}, column {}", line_number, column + 1), std::string(expected),
               cell.empty() ? "an empty cell" : Quote(cell), "correct the line or remove it"});
  };
  bool low = false;
  int64_t time_of_entry = 0;
  for (const int column : {columns_.user, columns_.item}) {
    if (cells_[column].empty()) return complain(column, "an id");
  }
  if (columns_.rating >= 0) {
    const auto rating = ParseFinite(cells_[columns_.rating]);
    if (!rating.has_value()) return complain(columns_.rating, "a rating, which is a number");
    low = min_rating_ != 0 && *rating < min_rating_;
  }
  if (columns_.time >= 0) {
    const auto time = ParseFinite(cells_[columns_.time]);
    if (!time.has_value() || std::abs(*time) > 9e18) {
      return complain(columns_.time, "a time, which is a number of seconds");
    }
    time_of_entry = static_cast<int64_t>(*time);
  }
  if (low) {
    ++low_ratings_;
    return absl::OkStatus();
  }
  if (static_cast<int64_t>(out.size()) == kMaxInteractions) return TooMany(file, line_number);
  out.push_back({users_.Of(cells_[columns_.user]), items_.Of(cells_[columns_.item])});
  if (order_by_time_) times_.push_back(time_of_entry);
  return absl::OkStatus();
}

absl::Status InteractionReader::ReadLightGcnLine(const std::string& file, int64_t line_number,
                                                 std::string_view line,
                                                 std::vector<RawInteractions::Entry>& out) {
  RawInteractions::Entry entry;
  int64_t position = 0;
  while (!line.empty()) {
    const size_t end = std::min(line.find(' '), line.size());
    const std::string_view cell = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
    if (cell.empty()) continue;
    ++position;
    const auto id = Parse<int64_t>(cell);
    if (!id.has_value() || *id < 0 || *id > std::numeric_limits<int32_t>::max()) {
      return DatasetInvalid(
          file, {fmt::format("line {}, number {}", line_number, position),
                 fmt::format("ids from 0 to {} separated by blanks: a user, then the items",
                             std::numeric_limits<int32_t>::max()),
                 Quote(cell), "write a user and the items of it on a line, with blanks between"});
    }
    if (position == 1) {
      entry.user = users_.Of(cell);
      continue;
    }
    entry.item = items_.Of(cell);
    if (static_cast<int64_t>(out.size()) == kMaxInteractions) return TooMany(file, line_number);
    out.push_back(entry);
  }
  return absl::OkStatus();
}

absl::Status InteractionReader::Read(ByteStream& stream, std::vector<RawInteractions::Entry>& out) {
  LineReader lines(stream);
  const size_t before = out.size();
  const int64_t low_before = low_ratings_;
  times_.clear();
  columns_ = {};
  separator_ = {};
  std::string_view line;
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    if (lines.line_number() == 1 && line.starts_with(kByteOrderMark)) {
      line.remove_prefix(kByteOrderMark.size());
    }
    if (Trim(line).empty()) continue;
    ESPALIER_RETURN_IF_ERROR(format_ == Format::FORMAT_LIGHTGCN
                                 ? ReadLightGcnLine(stream.name(), lines.line_number(), line, out)
                                 : ReadTableLine(stream.name(), lines.line_number(), line, out));
    ESPALIER_RETURN_IF_ERROR(
        stream.options().CheckMemory(stream.name(), MemoryBytes(out.size() - before)));
  }
  earlier_entries_ += out.size() - before;
  if (!times_.empty()) ESPALIER_RETURN_IF_ERROR(SortByTime(stream, before, out));
  if (out.size() > before || low_ratings_ > low_before) return absl::OkStatus();
  return DatasetInvalid(stream.name(), {"", "at least one interaction", "none",
                                        "write users and items into it, or remove the file"});
}

int64_t InteractionReader::MemoryBytes(size_t entries) const {
  return static_cast<int64_t>((earlier_entries_ + entries) * kBytesPerInteraction +
                              times_.size() * sizeof(int64_t)) +
         users_.bytes() + items_.bytes();
}

absl::Status InteractionReader::SortByTime(const ByteStream& stream, size_t first,
                                           std::vector<RawInteractions::Entry>& out) {
  const std::string& file = stream.name();
  const auto [earliest, latest] = std::minmax_element(times_.begin(), times_.end());
  if (*earliest == *latest && times_.size() >= kInteractionsWithOneTime) {
    return DatasetInvalid(file, {"", "times that differ, as data.interactions.order_by_time is set",
                                 fmt::format("{} in all {} lines", *earliest, times_.size()),
                                 "leave order_by_time out, and use split: ratio unless the lines "
                                 "are in the order in which things happened"});
  }
  std::vector<int32_t> order(times_.size());
  std::iota(order.begin(), order.end(), 0);
  ESPALIER_RETURN_IF_ERROR(SortUnlessCancelled(
      stream.options(),
      [&](const auto& less) { std::stable_sort(order.begin(), order.end(), less); },
      [&](int32_t a, int32_t b) { return times_[a] < times_[b]; }));
  std::vector<RawInteractions::Entry> sorted;
  sorted.reserve(order.size());
  for (const int32_t i : order) sorted.push_back(out[first + i]);
  std::copy(sorted.begin(), sorted.end(), out.begin() + static_cast<int64_t>(first));
  times_ = {};
  return absl::OkStatus();
}

void InteractionReader::TakeIds(RawInteractions& raw) {
  raw.users = users_.Take();
  raw.items = items_.Take();
}

absl::StatusOr<bool> NamesUserAndItem(ByteStream& stream) {
  LineReader lines(stream);
  std::string_view line;
  ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
  if (!more) return false;
  if (line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
  for (const std::string_view separator : {",", ";", "\t"}) {
    std::vector<std::string_view> cells;
    Split(line, separator, cells);
    if (FindColumn(cells, kUserNames) >= 0 && FindColumn(cells, kItemNames) >= 0) return true;
  }
  return false;
}

}  // namespace espalier::worker::data
