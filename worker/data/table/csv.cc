#include "worker/data/table/csv.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "absl/strings/ascii.h"
#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/interactions/cells.h"
#include "worker/data/readers.h"
#include "worker/data/table/numbers.h"
#include "worker/data/table/records.h"

namespace espalier::worker::data {
namespace {

constexpr size_t kLongestLabel = 256;
constexpr size_t kShownNames = 8;

// Short runs of digits, the usual cell of an image, without the general parser.
bool ParseSmall(std::string_view text, float* value) {
  if (text.empty() || text.size() > 7) return false;
  int sum = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    sum = sum * 10 + (c - '0');
  }
  *value = static_cast<float>(sum);
  return true;
}

// A finite number that fits into float32.
bool ParseFeature(std::string_view text, float* value) {
  if (ParseSmall(text, value)) return true;
  const auto number = ParseWhole<double>(text);
  constexpr double kLargest = std::numeric_limits<float>::max();
  if (!number.has_value() || !(std::abs(*number) <= kLargest)) return false;
  *value = static_cast<float>(*number);
  return true;
}

bool IsGap(std::string_view cell) {
  static constexpr std::array kWords = {"na", "n/a", "nan", "null", "none", "?"};
  return cell.empty() || std::any_of(kWords.begin(), kWords.end(), [&](std::string_view word) {
           return std::equal(cell.begin(), cell.end(), word.begin(), word.end(),
                             [](char a, char b) {
                               return absl::ascii_tolower(static_cast<unsigned char>(a)) == b;
                             });
         });
}

std::string Line(int64_t line) { return fmt::format("line {}", line); }

std::string Some(const std::vector<std::string>& names) {
  std::vector<std::string> shown;
  for (const std::string& name : names) {
    if (shown.size() == kShownNames) break;
    shown.push_back(Quote(name));
  }
  std::string text = fmt::format("{}", fmt::join(shown, ", "));
  if (names.size() > shown.size()) text += fmt::format(" and {} more", names.size() - shown.size());
  return text;
}

char DelimiterOf(v1::DataSpec::Delimiter delimiter) {
  switch (delimiter) {
    case v1::DataSpec::DELIMITER_COMMA:
      return ',';
    case v1::DataSpec::DELIMITER_SEMICOLON:
      return ';';
    case v1::DataSpec::DELIMITER_TAB:
      return '\t';
    default:
      return kFindDelimiter;
  }
}

// Every column needs a name of its own to be found by.
std::vector<std::string> UniqueNames(const std::vector<std::string_view>& cells) {
  std::vector<std::string> names;
  std::map<std::string, int> seen;
  for (size_t i = 0; i < cells.size(); ++i) {
    std::string name = cells[i].empty() ? fmt::format("column {}", i + 1) : std::string(cells[i]);
    const int times = ++seen[name];
    names.push_back(times == 1 ? name : fmt::format("{}#{}", name, times));
  }
  return names;
}

constexpr char kHelpsMissing[] =
    "put a number there, or set data.missing to mean (the column's mean) or drop (without the "
    "line)";
constexpr char kHelpsWords[] =
    "put a number there, remove the column, or set data.words to one_hot, which makes a feature of "
    "each word";

}  // namespace

CsvReader::CsvReader(const v1::DataSpec& spec, Purpose purpose, DatasetBuilder& builder)
    : spec_(spec), purpose_(purpose), builder_(builder) {}

std::string CsvReader::Where(int64_t line, size_t column) const {
  const std::string name =
      columns_[column].name.empty() ? "" : fmt::format(" ({})", Quote(columns_[column].name));
  return fmt::format("line {}, column {}{}", line, cell_of_[column] + 1, name);
}

bool CsvReader::LooksLikeHeader(const Cells& cells) const {
  size_t words = 0;
  float unused = 0;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i != label_cell_ && !ParseFeature(cells[i], &unused) && !IsGap(cells[i])) ++words;
  }
  return words > 0 && 2 * words >= cells.size() - 1;
}

absl::Status CsvReader::FindLabelColumn(const std::string& file,
                                        const std::vector<std::string>& names, bool header) {
  const std::string& agreed = spec_.agreement().label_column();
  const std::string wanted = header && !agreed.empty()
                                 ? agreed
                                 : (spec_.label_column().empty() ? "-1" : spec_.label_column());
  if (header) {
    const auto named = std::find(names.begin(), names.end(), wanted);
    if (named != names.end()) {
      label_cell_ = static_cast<size_t>(named - names.begin());
      label_name_ = wanted;
      return absl::OkStatus();
    }
  }
  const auto place = ParseWhole<int64_t>(wanted);
  const auto count = static_cast<int64_t>(names.size());
  if (place.has_value() && *place >= -1 && *place < count) {
    label_cell_ = static_cast<size_t>(*place < 0 ? count - 1 : *place);
    label_name_ = header ? names[label_cell_] : "";
    return absl::OkStatus();
  }
  if (place.has_value()) {
    return DatasetInvalid(file, {"", fmt::format("label column {}, counted from 0", wanted),
                                 fmt::format("columns 0 to {}", count - 1),
                                 "set data.label_column to the label's place, or -1 for the last"});
  }
  return DatasetInvalid(file,
                        {Line(1), fmt::format("a column {} for the labels", Quote(wanted)),
                         header ? "the columns " + Some(names) : "no header that names columns",
                         header ? "set data.label_column to one of them"
                                : "set data.label_column to the label's place counted from 0, or "
                                  "data.header to present"});
}

absl::Status CsvReader::CheckAgreement(const std::string& file) {
  const auto& agreed = spec_.agreement().columns();
  if (agreed.empty()) {
    const bool needed = spec_.words() == v1::DataSpec::WORDS_ONE_HOT ||
                        spec_.missing() == v1::DataSpec::MISSING_MEAN;
    if (!needed || purpose_ == Purpose::kDescribe) return absl::OkStatus();
    return base::InvalidArgument(
        kDataSpecInvalid,
        "data.words: one_hot and data.missing: mean need what the sites agreed on, found no "
        "agreement; load the data set with the data spec of the job's tasks");
  }
  if (static_cast<size_t>(agreed.size()) == columns_.size()) return absl::OkStatus();
  return DatasetInvalid(
      file, {"", fmt::format("{} columns of features, as all sites have", agreed.size()),
             fmt::format("{}", columns_.size()), "use files with the same columns at all sites"});
}

// The place of each column of features among the names of a file.
absl::Status CsvReader::MatchNames(const std::string& file, const std::vector<std::string>& names) {
  std::vector<std::string> missing;
  cell_of_.clear();
  for (const Column& column : columns_) {
    const auto found = std::find(names.begin(), names.end(), column.name);
    if (found == names.end()) missing.push_back(column.name);
    cell_of_.push_back(static_cast<size_t>(found - names.begin()));
  }
  if (missing.empty() && names.size() == columns_.size() + 1) return absl::OkStatus();
  std::vector<std::string> extra;
  for (const std::string& name : names) {
    const bool known = std::any_of(columns_.begin(), columns_.end(),
                                   [&](const Column& column) { return column.name == name; });
    if (!known && name != label_name_) extra.push_back(name);
  }
  std::string found;
  if (!missing.empty()) found = "none called " + Some(missing);
  if (!extra.empty()) found += (found.empty() ? "also " : ", and also ") + Some(extra);
  return DatasetInvalid(file, {Line(1),
                               fmt::format("the columns that the training files have, in any "
                                           "order: {} of features and {}",
                                           columns_.size(), Quote(label_name_)),
                               found, "give the columns of all files the same names"});
}

absl::Status CsvReader::BeginTraining(const std::string& file, const Cells& first, bool header) {
  if (first.size() < 2) {
    return DatasetInvalid(
        file, {Line(1),
               fmt::format("at least 2 columns separated by {} (features and a label)",
                           DelimiterWord(delimiter_)),
               fmt::format("{}", first.size()),
               "write one example a line, or set data.delimiter to comma, semicolon or tab"});
  }
  has_header_ = header;
  cell_count_ = first.size();
  const std::vector<std::string> names = UniqueNames(first);
  ESPALIER_RETURN_IF_ERROR(FindLabelColumn(file, names, header));
  label_place_ = label_cell_;
  for (size_t i = 0; i < names.size(); ++i) {
    if (i == label_cell_) continue;
    columns_.emplace_back().name = header ? names[i] : "";
    cell_of_.push_back(i);
  }
  ESPALIER_RETURN_IF_ERROR(CheckAgreement(file));
  const auto& agreed = spec_.agreement().columns();
  size_t features = 0;
  for (size_t i = 0; i < columns_.size(); ++i) {
    Column& column = columns_[i];
    if (!agreed.empty()) {
      const v1::Agreement::Column& as = agreed.Get(static_cast<int>(i));
      if (header) column.name = as.name();
      column.mean = as.mean();
      for (const std::string& word : as.words()) {
        column.features.emplace(word, static_cast<int>(column.features.size()));
      }
    }
    features += std::max<size_t>(1, column.features.size());
  }
  if (header && !agreed.empty()) ESPALIER_RETURN_IF_ERROR(MatchNames(file, names));
  row_.resize(features);
  begun_ = true;
  return builder_.SetFeatures(static_cast<int64_t>(features), file);
}

absl::Status CsvReader::BeginTest(const std::string& file, const Cells& first, bool header) {
  training_ = false;
  cell_count_ = columns_.size() + 1;
  if (header && has_header_) {
    const std::vector<std::string> names = UniqueNames(first);
    ESPALIER_RETURN_IF_ERROR(MatchNames(file, names));
    const auto label = std::find(names.begin(), names.end(), label_name_);
    if (label == names.end()) {
      return DatasetInvalid(
          file, {Line(1), fmt::format("a column {}", Quote(label_name_)),
                 "the columns " + Some(names), "give the columns of all files the same names"});
    }
    label_cell_ = static_cast<size_t>(label - names.begin());
    return absl::OkStatus();
  }
  // By place, as in the training file.
  if (!spec_.agreement().columns().empty() && has_header_) {
    return DatasetInvalid(file, {Line(1), "a header, as the training file has", "none",
                                 "begin the file with the names of its columns"});
  }
  label_cell_ = label_place_;
  cell_of_.clear();
  for (size_t i = 0; i < cell_count_; ++i) {
    if (i != label_cell_) cell_of_.push_back(i);
  }
  return absl::OkStatus();
}

absl::Status CsvReader::ReadFile(ByteStream& stream) {
  RecordReader records(stream, DelimiterOf(spec_.delimiter()));
  const std::string& file = stream.name();
  int64_t rows = 0;
  bool first = true;
  // A first line that is a header only if the second one has a number for a label.
  std::vector<std::string> held;
  int64_t held_line = 0;
  const auto begin = [&](const Cells& cells, bool header) {
    return begun_ ? BeginTest(file, cells, header) : BeginTraining(file, cells, header);
  };
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, records.Next());
    if (!more) break;
    const Cells& cells = records.cells();
    if (first) {
      first = false;
      delimiter_ = records.delimiter();
      // Where the label is by the present guess, to tell a header from an example.
      if (!begun_) {
        const auto place = ParseWhole<int64_t>(spec_.label_column());
        label_cell_ = place.has_value() && *place >= 0 ? static_cast<size_t>(*place)
                                                       : std::max<size_t>(cells.size(), 1) - 1;
        const auto named = std::find(cells.begin(), cells.end(), spec_.label_column());
        if (named != cells.end()) label_cell_ = static_cast<size_t>(named - cells.begin());
      }
      const bool names_label =
          !spec_.label_column().empty() && !ParseWhole<int64_t>(spec_.label_column()).has_value();
      const bool header = spec_.header() == v1::DataSpec::HEADER_PRESENT ||
                          (spec_.header() != v1::DataSpec::HEADER_ABSENT &&
                           (names_label || LooksLikeHeader(cells)));
      if (header) {
        ESPALIER_RETURN_IF_ERROR(begin(cells, true));
        continue;
      }
      const bool may_be = spec_.header() == v1::DataSpec::HEADER_UNSPECIFIED &&
                          label_cell_ < cells.size() && !IsGap(cells[label_cell_]) &&
                          !ParseWhole<double>(cells[label_cell_]).has_value();
      if (may_be) {
        held.assign(cells.begin(), cells.end());
        held_line = records.line_number();
        continue;
      }
      ESPALIER_RETURN_IF_ERROR(begin(cells, false));
    }
    if (!held.empty()) {
      const Cells names(held.begin(), held.end());
      const bool header =
          label_cell_ < cells.size() && ParseWhole<int64_t>(cells[label_cell_]).has_value();
      ESPALIER_RETURN_IF_ERROR(begin(names, header));
      if (!header) {
        ESPALIER_RETURN_IF_ERROR(Take({file, held_line}, names));
        ++rows;
      }
      held.clear();
    }
    ESPALIER_RETURN_IF_ERROR(Take({file, records.line_number()}, cells));
    ++rows;
  }
  if (!held.empty()) {
    const Cells only(held.begin(), held.end());
    ESPALIER_RETURN_IF_ERROR(begin(only, false));
    ESPALIER_RETURN_IF_ERROR(Take({file, held_line}, only));
    ++rows;
  }
  if (rows > 0) return absl::OkStatus();
  return DatasetInvalid(
      file, {"", "one example a line", "an empty file", "write values and label separated by ','"});
}

absl::Status CsvReader::TakeWord(const Place& place, size_t column, std::string_view cell) {
  Column& into = columns_[column];
  if (purpose_ == Purpose::kDescribe) {
    if (into.words.find(cell) == into.words.end()) into.words.emplace(cell);
    if (into.words.size() <= kMaxWords || !into.has_words) return absl::OkStatus();
    return DatasetInvalid(place.file,
                          {Where(place.line, column),
                           fmt::format("at most {} different words in a column", kMaxWords), "more",
                           "remove the column: it names examples, or holds dates or text"});
  }
  const auto feature = into.features.find(std::string(cell));
  if (feature != into.features.end()) {
    row_[next_ + static_cast<size_t>(feature->second)] = 1;
    return absl::OkStatus();
  }
  return DatasetInvalid(place.file,
                        {Where(place.line, column),
                         "a word that the sites agreed on when the job "
                         "began",
                         Quote(cell), "submit the job again, so that the sites agree anew"});
}

absl::StatusOr<bool> CsvReader::TakeFeature(const Place& place, size_t column,
                                            std::string_view cell) {
  Column& into = columns_[column];
  const bool one_hot = spec_.words() == v1::DataSpec::WORDS_ONE_HOT;
  const size_t width = std::max<size_t>(1, into.features.size());
  float* const values = row_.data() + next_;
  std::fill_n(values, width, 0.0F);
  if (IsGap(cell)) {
    ++into.missing;
    if (spec_.missing() == v1::DataSpec::MISSING_DROP) return false;
    if (spec_.missing() != v1::DataSpec::MISSING_MEAN) {
      return DatasetInvalid(place.file,
                            {Where(place.line, column), "a finite number",
                             cell.empty() ? "an empty cell" : Quote(cell), kHelpsMissing});
    }
    if (into.features.empty()) *values = static_cast<float>(into.mean);
    return true;
  }
  if (!into.features.empty()) {
    ESPALIER_RETURN_IF_ERROR(TakeWord(place, column, cell));
    return true;
  }
  const bool number = ParseFeature(cell, values);
  if (number && training_) {
    into.sum += *values;
    ++into.values;
  }
  if (!number && !(one_hot && purpose_ == Purpose::kDescribe)) {
    return DatasetInvalid(place.file, {Where(place.line, column), "a finite number", Quote(cell),
                                       one_hot ? "submit the job again, so that the sites agree "
                                                 "anew: this column had no words when it began"
                                               : kHelpsWords});
  }
  if (one_hot && purpose_ == Purpose::kDescribe) {
    into.has_words = into.has_words || !number;
    // Numbers among words are words, too; of columns of numbers only the beginning is kept.
    if (into.has_words || into.words.size() <= kMaxWords) {
      ESPALIER_RETURN_IF_ERROR(TakeWord(place, column, cell));
    }
  }
  return true;
}

absl::Status CsvReader::Take(const Place& place, const Cells& cells) {
  if (cells.size() != cell_count_) {
    return DatasetInvalid(
        place.file,
        {Line(place.line), fmt::format("{} columns as in the first line", cell_count_),
         fmt::format("{}", cells.size()),
         "complete the line or remove it; comments and totals do not belong into the file"});
  }
  next_ = 0;
  for (size_t column = 0; column < columns_.size(); ++column) {
    ESPALIER_ASSIGN_OR_RETURN(const bool kept, TakeFeature(place, column, cells[cell_of_[column]]));
    if (!kept) return absl::OkStatus();
    next_ += std::max<size_t>(1, columns_[column].features.size());
  }
  const std::string_view label = cells[label_cell_];
  if (IsGap(label) && spec_.missing() == v1::DataSpec::MISSING_DROP) return absl::OkStatus();
  ESPALIER_RETURN_IF_ERROR(AddLabel(place, label));
  return builder_.AppendRow(row_);
}

absl::Status CsvReader::AddLabel(const Place& place, std::string_view text) {
  const auto [known, is_new] =
      label_ids_.try_emplace(std::string(text), static_cast<int32_t>(labels_.size()));
  if (is_new) {
    const std::string where = fmt::format("line {}, column {}", place.line, label_cell_ + 1);
    const bool fractional = ParseWhole<double>(text) && !ParseWhole<int64_t>(text);
    if (IsGap(text) || fractional) {
      return DatasetInvalid(place.file,
                            {where, "a label: a whole number from 0 or a word",
                             text.empty() ? "an empty cell" : Quote(text),
                             fractional ? "set data.label_column to the column of the labels"
                                        : "correct the line, set data.missing to drop, or set "
                                          "data.label_column to the column of the labels"});
    }
    if (text.size() > kLongestLabel) {
      return DatasetInvalid(
          place.file,
          {where, fmt::format("a label of at most {} characters", kLongestLabel),
           fmt::format("{}", text.size()), "set data.label_column to the column of the labels"});
    }
    if (static_cast<int64_t>(labels_.size()) == kMaxClasses) {
      return DatasetInvalid(place.file,
                            {where, fmt::format("at most {} classes", kMaxClasses), "more",
                             "set data.label_column to the column of the labels"});
    }
    labels_.push_back({std::string(text), place.file, place.line});
  }
  builder_.AppendLabel(known->second);
  return absl::OkStatus();
}

absl::Status CsvReader::NumberLabels(std::vector<int32_t>& classes) const {
  for (size_t i = 0; i < labels_.size(); ++i) {
    const int64_t value = *ParseWhole<int64_t>(labels_[i].text);
    if (value < 0 || value >= kMaxClasses) {
      return DatasetInvalid(
          labels_[i].file,
          {fmt::format("line {}, column {}", labels_[i].line, label_place_ + 1),
           fmt::format("a label in 0..{}", kMaxClasses - 1), std::to_string(value),
           "number the classes from 0, or set data.label_column to the column of the labels"});
    }
    classes[i] = static_cast<int32_t>(value);
  }
  return absl::OkStatus();
}

absl::Status CsvReader::FinishLabels() {
  std::vector<int32_t> classes(labels_.size());
  const auto is_number = [](const Label& label) {
    return ParseWhole<int64_t>(label.text).has_value();
  };
  const auto number = std::find_if(labels_.begin(), labels_.end(), is_number);
  const auto word = std::find_if_not(labels_.begin(), labels_.end(), is_number);
  const auto& agreed = spec_.agreement().classes();
  if (word == labels_.end() && agreed.empty()) {
    ESPALIER_RETURN_IF_ERROR(NumberLabels(classes));
    builder_.MapLabels(classes, {});
    return absl::OkStatus();
  }
  if (agreed.empty() && number != labels_.end()) {
    return DatasetInvalid(
        word->file,
        {fmt::format("line {}, column {}", word->line, label_place_ + 1),
         fmt::format("labels of one kind: a whole number as {} in line {}, or words everywhere",
                     Quote(number->text), number->line),
         Quote(word->text), "correct the line; if it is a header set data.header to present"});
  }
  const bool local = spec_.partition().kind() == v1::Partition::KIND_LOCAL;
  if (agreed.empty() && local && purpose_ == Purpose::kLoad) {
    return DatasetInvalid(
        word->file,
        {fmt::format("line {}, column {}", word->line, label_place_ + 1),
         "a whole number, as the sites have not agreed on names of classes (files of more than 256 "
         "MiB are not read for that)",
         Quote(word->text), "number the classes in the same way at all sites"});
  }
  class_names_.assign(agreed.begin(), agreed.end());
  if (agreed.empty()) {
    for (const Label& label : labels_) class_names_.push_back(label.text);
    std::sort(class_names_.begin(), class_names_.end());
  }
  for (size_t i = 0; i < labels_.size(); ++i) {
    const auto place = std::lower_bound(class_names_.begin(), class_names_.end(), labels_[i].text);
    if (place == class_names_.end() || *place != labels_[i].text) {
      return DatasetInvalid(labels_[i].file,
                            {fmt::format("line {}, column {}", labels_[i].line, label_place_ + 1),
                             "one of the classes that the sites agreed on: " + Some(class_names_),
                             Quote(labels_[i].text), "correct the label, or submit the job again"});
    }
    classes[i] = static_cast<int32_t>(place - class_names_.begin());
  }
  builder_.MapLabels(classes, class_names_);
  return absl::OkStatus();
}

absl::Status CsvReader::Describe(v1::DatasetInfo& info) const {
  int64_t features = 0;
  for (const Column& column : columns_) {
    v1::DatasetInfo::Column& into = *info.add_columns();
    into.set_name(column.name);
    into.set_sum(column.sum);
    into.set_values(column.values);
    into.set_missing(column.missing);
    if (column.has_words) into.mutable_words()->Assign(column.words.begin(), column.words.end());
    features += std::max(1, into.words_size());
  }
  info.set_features(features);
  info.mutable_class_names()->Assign(class_names_.begin(), class_names_.end());
  info.set_header(has_header_);
  info.set_delimiter(DelimiterName(delimiter_));
  info.set_label_column(has_header_ ? label_name_ : std::to_string(label_place_));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> ReadTextGroups(ByteStream& stream) {
  LineReader lines(stream);
  std::vector<int64_t> groups;
  std::string_view line;
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    const std::string_view text = Trim(line);
    if (text.empty()) continue;
    const auto group = ParseWhole<int64_t>(text);
    if (!group.has_value()) {
      return DatasetInvalid(stream.name(),
                            {Line(lines.line_number()), "one integer, the group's id", Quote(line),
                             "write one integer a line"});
    }
    groups.push_back(*group);
    ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(
        stream.name(), static_cast<int64_t>(groups.capacity() * sizeof(int64_t))));
  }
  return groups;
}

}  // namespace espalier::worker::data
