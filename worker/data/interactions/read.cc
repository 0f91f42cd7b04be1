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

#include "absl/strings/ascii.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/interactions/cells.h"
#include "worker/data/table/delimiter.h"
#include "worker/data/table/encoding.h"

namespace espalier::worker::data {
namespace {

using Format = v1::Interactions;

constexpr int64_t kMaxInteractions = std::numeric_limits<int32_t>::max();
// So many that it is not by chance.
constexpr size_t kInteractionsWithOneTime = 1000;
// An interaction, its copies while repetitions are looked for, and its place in the lists.
constexpr size_t kBytesPerInteraction = 28;

constexpr size_t kMostWithoutNames = 4;
constexpr size_t kLongestFound = 40;

absl::Status WrongCell(const std::string& file, const TableLines& lines, int column,
                       std::string_view expected) {
  const std::string_view cell = lines.cells()[column];
  return DatasetInvalid(file, {fmt::format("line {}, column {}", lines.line_number(), column + 1),
                               std::string(expected), cell.empty() ? "an empty cell" : Quote(cell),
                               "correct the line or remove it"});
}

absl::Status Comment(const std::string& file, int64_t line_number, std::string_view text) {
  return DatasetInvalid(file, {AtLine(line_number), "an interaction", "a comment: " + Quote(text),
                               "remove the lines of comments"});
}

absl::Status TooMany(const std::string& file, int64_t line_number) {
  return DatasetInvalid(
      file, {AtLine(line_number), fmt::format("at most {} interactions", kMaxInteractions), "more",
             "use a part of them"});
}

std::vector<std::string> WithEnding(const std::vector<FileEntry>& files, std::string_view beginning,
                                    const std::string& ending) {
  std::vector<std::string> names;
  for (const FileEntry& file : files) {
    const std::string name = absl::AsciiStrToLower(file.name);
    if (name.starts_with(beginning) && (name.ends_with(ending) || name.ends_with(ending + ".gz"))) {
      names.push_back(file.name);
    }
  }
  return names;
}

std::string NamesOf(const std::vector<FileEntry>& files) {
  constexpr size_t kMostNames = 10;
  std::vector<std::string> names;
  for (const FileEntry& file : files) {
    if (names.size() < kMostNames) names.push_back(file.name);
  }
  if (names.empty()) return "no file";
  return fmt::format("{}{}", fmt::join(names, ", "),
                     files.size() > names.size()
                         ? fmt::format(" and {} more files", files.size() - names.size())
                         : "");
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

// One table, or one that says by its name that it has the interactions.
std::optional<InteractionFiles> FindTable(const std::vector<FileEntry>& files,
                                          const std::string& ending) {
  if (auto pair = FindPair(files, ending, Format::FORMAT_CSV)) return pair;
  for (const char* name : {"ratings", "interactions"}) {
    if (const auto file = FindFile(files, name + ending)) {
      return InteractionFiles{Format::FORMAT_CSV, *file, ""};
    }
  }
  std::vector<std::string> names = WithEnding(files, "", ending);
  std::erase_if(names, [](const std::string& name) { return IsFieldTable(name); });
  if (names.size() == 1) return InteractionFiles{Format::FORMAT_CSV, names[0], ""};
  return std::nullopt;
}

std::optional<InteractionFiles> FindCsv(const std::vector<FileEntry>& files, bool also_text) {
  for (const char* ending : {".csv", ".tsv", ".inter", ".txt"}) {
    if (std::string_view(ending) == ".txt" && !also_text) continue;
    if (auto found = FindTable(files, ending)) return found;
  }
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
  if (!found && wanted(Format::FORMAT_CSV)) {
    found = FindCsv(files, /*also_text=*/format == Format::FORMAT_CSV);
  }
  if (found) return *found;
  return DatasetInvalid(
      dataset,
      {"",
       "interactions as u.data, ratings.dat, train.txt (with test.txt), train.csv (with "
       "test.csv), ratings.csv, or one single .csv, .tsv or .inter",
       NamesOf(files), "give the files one of these names, or set data.interactions.format"});
}

InteractionReader::InteractionReader(v1::Interactions::Format format, const v1::DataSpec& view)
    : format_(format),
      min_rating_(view.interactions().min_rating()),
      order_by_time_(view.interactions().order_by_time()),
      delimiter_(DelimiterOf(view.delimiter())),
      header_(view.header()) {}

absl::Status InteractionReader::CheckCount(const std::string& file, const TableLines& lines,
                                           bool known) const {
  const bool movielens = format_ == Format::FORMAT_MOVIELENS;
  const size_t found = lines.cells().size();
  if (found >= (movielens ? 3 : 2) && (!known || found == columns_.count)) return absl::OkStatus();
  if (BeginsComment(lines.cells()[0])) return Comment(file, lines.line_number(), lines.text());
  const char* expected = movielens
                             ? "user, item, rating and time separated by tabs or '::'"
                             : "user and item, then if you like rating and time, separated by ','";
  return DatasetInvalid(
      file,
      {AtLine(lines.line_number()),
       known ? fmt::format("{} cells separated by {} as in the first line", columns_.count,
                           lines.separator_word())
             : expected,
       fmt::format("{} in {}", found, Quote(lines.text())),
       "use one separator in all of the file, or set data.interactions.format to what it is"});
}

absl::StatusOr<FirstLine> InteractionReader::KindOfFirstLine(const std::string& file,
                                                             const TableLines& lines) {
  if (format_ == Format::FORMAT_MOVIELENS || header_ == v1::DataSpec::HEADER_ABSENT) {
    return FirstLine::kInteraction;
  }
  if (header_ == v1::DataSpec::HEADER_PRESENT) return FirstLine::kHeader;
  const Cells& cells = lines.cells();
  const bool as_before = std::ranges::equal(cells, columns_.names);
  if (as_before || NamesUserAndItem(cells)) return FirstLine::kHeader;
  const bool has_columns = columns_.count == cells.size();
  if (!has_columns && cells.size() > kMostWithoutNames) {
    // The error says what is missing.
    return NamedColumns(file, lines.line_number(), cells).status();
  }
  const Columns columns = has_columns ? columns_ : UsualColumns(cells.size());
  const bool known_ids = users_.Has(cells[columns.user]) || items_.Has(cells[columns.item]);
  return known_ids ? FirstLine::kInteraction : LookAtFirstLine(cells, columns);
}

absl::StatusOr<bool> InteractionReader::TakeFirstLine(const std::string& file,
                                                      const TableLines& lines) {
  const Cells& cells = lines.cells();
  ESPALIER_ASSIGN_OR_RETURN(const FirstLine kind, KindOfFirstLine(file, lines));
  if (kind == FirstLine::kHeader) {
    ESPALIER_ASSIGN_OR_RETURN(columns_, NamedColumns(file, lines.line_number(), cells));
  } else if (columns_.count != cells.size()) {
    columns_ = UsualColumns(cells.size());
  }
  ESPALIER_RETURN_IF_ERROR(CheckColumns(file));
  if (kind == FirstLine::kUnclear) {
    const std::string_view user = cells[columns_.user];
    const std::string_view item = cells[columns_.item];
    unclear_ = Unclear{lines.line_number(),
                       std::string(user),
                       std::string(item),
                       {cells.begin(), cells.end()},
                       UnclearHeader(user, item)};
  }
  return kind == FirstLine::kInteraction;
}

absl::Status InteractionReader::CheckColumns(const std::string& file) const {
  if (order_by_time_ && columns_.time < 0) {
    return DatasetInvalid(
        file,
        {"", "a column of times, as data.interactions.order_by_time is set", Describe(columns_),
         "name the column of times 'timestamp' in the header, or leave order_by_time out"});
  }
  if (min_rating_ != 0 && columns_.rating < 0) {
    return DatasetInvalid(
        file,
        {"", "a column of ratings, as data.interactions.min_rating is set", Describe(columns_),
         "name the column of ratings 'rating' in the header, or leave min_rating out"});
  }
  return absl::OkStatus();
}

absl::Status InteractionReader::ReadTable(ByteStream& stream, Entries& out) {
  const std::string& file = stream.name();
  TableLines lines = format_ == Format::FORMAT_MOVIELENS ? TableLines::Plain(stream)
                                                         : TableLines::Csv(stream, delimiter_);
  const size_t before = out.size();
  bool begun = false;
  unclear_.reset();
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next());
    if (!more) break;
    ESPALIER_RETURN_IF_ERROR(CheckCount(file, lines, /*known=*/begun));
    bool interaction = true;
    if (!begun) {
      ESPALIER_ASSIGN_OR_RETURN(interaction, TakeFirstLine(file, lines));
    }
    begun = true;
    if (interaction) ESPALIER_RETURN_IF_ERROR(TakeLine(file, lines, out));
    ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(file, MemoryBytes(out.size() - before)));
  }
  return DecideOnFirstLine(file, before, out);
}

absl::Status InteractionReader::DecideOnFirstLine(const std::string& file, size_t before,
                                                  Entries& out) {
  if (!unclear_.has_value()) return absl::OkStatus();
  const FirstLine kind = unclear_->header.Decide();
  if (kind == FirstLine::kHeader) {
    columns_.names = unclear_->names;
    return absl::OkStatus();
  }
  if (kind == FirstLine::kInteraction) {
    out.insert(out.begin() + static_cast<int64_t>(before),
               {users_.Of(unclear_->user), items_.Of(unclear_->item)});
    return absl::OkStatus();
  }
  return DatasetInvalid(
      file,
      {AtLine(unclear_->line), "a first line of which it is clear whether it names the columns",
       fmt::format("{} and {}, which come nowhere else in their columns and look like the ids "
                   "there",
                   Quote(unclear_->user), Quote(unclear_->item)),
       "set data.header: present if it names the columns, else data.header: absent"});
}

absl::StatusOr<bool> InteractionReader::TakeRating(const std::string& file,
                                                   const TableLines& lines) const {
  if (columns_.rating < 0 || (columns_.rating_is_named && min_rating_ == 0)) return true;
  std::string cell(lines.cells()[columns_.rating]);
  if (lines.has_decimal_commas()) std::ranges::replace(cell, ',', '.');
  const auto rating = ParseFinite(cell);
  if (!rating.has_value()) {
    return WrongCell(file, lines, columns_.rating, "a rating, which is a number");
  }
  return min_rating_ == 0 || *rating >= min_rating_;
}

absl::Status InteractionReader::TakeTime(const std::string& file, const TableLines& lines) {
  if (columns_.time < 0 || (columns_.time_is_named && !order_by_time_)) return absl::OkStatus();
  std::string cell(lines.cells()[columns_.time]);
  if (lines.has_decimal_commas()) std::ranges::replace(cell, ',', '.');
  const auto time = ParseTime(cell);
  if (!time.has_value() || (dates_.has_value() && *dates_ != time->is_date)) {
    return WrongCell(file, lines, columns_.time,
                     !dates_.has_value() ? "a time, which is a number or a date such as 2014-07-01 "
                                           "12:30:00"
                     : *dates_           ? "a time, which is a date as those before it"
                                         : "a time, which is a number as those before it");
  }
  if (!dates_.has_value()) first_time_ = cell;
  dates_ = time->is_date;
  if (order_by_time_) times_.push_back(time->time);
  return absl::OkStatus();
}

absl::Status InteractionReader::TakeLine(const std::string& file, const TableLines& lines,
                                         Entries& out) {
  const std::string_view user = lines.cells()[columns_.user];
  const std::string_view item = lines.cells()[columns_.item];
  for (const int column : {columns_.user, columns_.item}) {
    if (lines.cells()[column].empty()) return WrongCell(file, lines, column, "an id");
  }
  if (!columns_.names.empty() && user == columns_.names[columns_.user] &&
      item == columns_.names[columns_.item]) {
    return DatasetInvalid(file, {AtLine(lines.line_number()), "the header in the first line only",
                                 "the header again: " + Quote(lines.text()), "remove the line"});
  }
  if (unclear_.has_value()) unclear_->header.Compare(user, item);
  ESPALIER_ASSIGN_OR_RETURN(const bool high, TakeRating(file, lines));
  const size_t times = times_.size();
  ESPALIER_RETURN_IF_ERROR(TakeTime(file, lines));
  if (!high) {
    times_.resize(times);
    ++low_ratings_;
    return absl::OkStatus();
  }
  if (static_cast<int64_t>(out.size()) >= kMaxInteractions) {
    return TooMany(file, lines.line_number());
  }
  out.push_back({users_.Of(user), items_.Of(item)});
  return absl::OkStatus();
}

absl::Status InteractionReader::ReadLightGcnLine(const std::string& file, int64_t line_number,
                                                 std::string_view line, char separator,
                                                 Entries& out) {
  RawInteractions::Entry entry;
  int64_t position = 0;
  const std::string_view whole = line;
  while (!line.empty()) {
    const size_t end = std::min(line.find(separator), line.size());
    const std::string_view cell = line.substr(0, end);
    line.remove_prefix(std::min(end + 1, line.size()));
    if (cell.empty()) continue;
    if (++position == 1 && BeginsComment(cell)) return Comment(file, line_number, whole);
    const auto id = ParseNumber<int64_t>(cell);
    if (!id.has_value() || *id < 0 || *id > std::numeric_limits<int32_t>::max()) {
      return DatasetInvalid(file,
                            {fmt::format("line {}, number {}", line_number, position),
                             fmt::format("ids from 0 to {} separated by {}: a user, then the items",
                                         std::numeric_limits<int32_t>::max(),
                                         separator == ' ' ? "blanks" : "tabs as in the first line"),
                             fmt::format("'{}'", base::PrintablePrefix(cell, kLongestFound)),
                             "write a user and the items of it on a line, with blanks between"});
    }
    // "007" and "7" are one id: they are numbers here.
    const std::string name = std::to_string(*id);
    if (position == 1) {
      entry.user = users_.Of(name);
      continue;
    }
    entry.item = items_.Of(name);
    if (static_cast<int64_t>(out.size()) >= kMaxInteractions) {
      return TooMany(file, line_number);
    }
    out.push_back(entry);
  }
  return absl::OkStatus();
}

absl::Status InteractionReader::ReadLightGcn(ByteStream& stream, Entries& out) {
  const std::string& file = stream.name();
  if (order_by_time_ || min_rating_ != 0) {
    return DatasetInvalid(
        file,
        {"",
         fmt::format("{}, as data.interactions.{} is set", order_by_time_ ? "times" : "ratings",
                     order_by_time_ ? "order_by_time" : "min_rating"),
         "LightGCN's text, which has only ids",
         fmt::format("leave {} out", order_by_time_ ? "order_by_time" : "min_rating")});
  }
  LineReader lines(stream);
  const size_t before = out.size();
  std::string_view line;
  char separator = '\0';
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) return absl::OkStatus();
    if (lines.line_number() == 1 && line.starts_with(kUtf8ByteOrderMark)) {
      line.remove_prefix(kUtf8ByteOrderMark.size());
    }
    line = Trim(line);
    if (line.empty()) continue;
    if (separator == '\0') separator = line.find('\t') == std::string_view::npos ? ' ' : '\t';
    ESPALIER_RETURN_IF_ERROR(ReadLightGcnLine(file, lines.line_number(), line, separator, out));
    ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(file, MemoryBytes(out.size() - before)));
  }
}

absl::Status InteractionReader::Read(ByteStream& stream, Entries& out) {
  const size_t before = out.size();
  const int64_t low_before = low_ratings_;
  ESPALIER_RETURN_IF_ERROR(format_ == Format::FORMAT_LIGHTGCN ? ReadLightGcn(stream, out)
                                                              : ReadTable(stream, out));
  earlier_entries_ += out.size() - before;
  if (out.size() > before || low_ratings_ > low_before) return absl::OkStatus();
  return DatasetInvalid(stream.name(), {"", "at least one interaction", "none",
                                        "write users and items into it, or remove the file"});
}

int64_t InteractionReader::MemoryBytes(size_t entries) const {
  return static_cast<int64_t>((earlier_entries_ + entries) * kBytesPerInteraction +
                              times_.size() * sizeof(Time)) +
         users_.bytes() + items_.bytes();
}

absl::Status InteractionReader::SortByTime(const std::string& file, const LoadOptions& options,
                                           Entries& entries) {
  const auto [earliest, latest] = std::minmax_element(times_.begin(), times_.end());
  if (*earliest == *latest && times_.size() >= kInteractionsWithOneTime) {
    return DatasetInvalid(file, {"", "times that differ, as data.interactions.order_by_time is set",
                                 fmt::format("{} in all {} lines", first_time_, times_.size()),
                                 "leave order_by_time out, and use split: ratio unless the lines "
                                 "are in the order in which things happened"});
  }
  std::vector<int32_t> order(entries.size());
  std::iota(order.begin(), order.end(), 0);
  ESPALIER_RETURN_IF_ERROR(SortUnlessCancelled(
      options, [&](const auto& less) { std::stable_sort(order.begin(), order.end(), less); },
      [&](int32_t a, int32_t b) { return times_[a] < times_[b]; }));
  Entries sorted;
  sorted.reserve(order.size());
  for (const int32_t i : order) sorted.push_back(entries[i]);
  entries = std::move(sorted);
  times_ = {};
  return absl::OkStatus();
}

absl::Status InteractionReader::Finish(const std::string& file, const LoadOptions& options,
                                       RawInteractions& raw) {
  if (!times_.empty()) ESPALIER_RETURN_IF_ERROR(SortByTime(file, options, raw.train));
  raw.users = users_.Take();
  raw.items = items_.Take();
  return absl::OkStatus();
}

}  // namespace espalier::worker::data
