#include "worker/data/table/csv.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/readers.h"
#include "worker/data/table/cells.h"
#include "worker/data/table/csv_header.h"
#include "worker/data/table/records.h"

namespace espalier::worker::data {
namespace {

constexpr size_t kLongestLabel = 256;
// A column with a short name, and its place.
constexpr size_t kBytesPerColumn = 192;

// "none" and "null" may be names of classes; they are the only ones that long.
bool IsMissingLabel(std::string_view text) {
  constexpr size_t kShortestName = 4;
  return text.size() < kShortestName && IsMissing(text);
}

}  // namespace

CsvReader::CsvReader(const v1::DataSpec& spec, Purpose purpose, DatasetBuilder& builder)
    : spec_(spec),
      purpose_(purpose),
      builder_(builder),
      targets_(spec),
      encoder_(spec, purpose == Purpose::kDescribe ? RowEncoder::Purpose::kDescribe
                                                   : RowEncoder::Purpose::kLoad) {}

std::string CsvReader::LabelAt(int64_t line) const {
  return fmt::format("line {}, column {}", line, targets_.training_place(0) + 1);
}

absl::StatusOr<bool> CsvReader::HasHeader(const std::string& file, const Cells& first,
                                          const Cells* second) const {
  if (spec_.header() == v1::DataSpec::HEADER_PRESENT) return true;
  if (spec_.header() == v1::DataSpec::HEADER_ABSENT) return false;
  if (begun_) {
    // A test file has a header like that of the training file, in any order, or none.
    const auto known = [&](std::string_view cell) {
      return targets_.HasName(cell) ||
             std::any_of(encoder_.columns().begin(), encoder_.columns().end(),
                         [&](const auto& column) { return column.name == cell; });
    };
    if (has_header_ && std::all_of(first.begin(), first.end(), known)) return true;
  }
  // A column that is given by its name needs a header.
  if (targets_.AskedByName()) return true;
  const std::string& wanted = spec_.label_column();
  const auto place = ParseNumber<int64_t>(wanted);
  const auto named = std::find(first.begin(), first.end(), wanted);
  const size_t label = named != first.end() ? static_cast<size_t>(named - first.begin())
                       : place.has_value() && *place >= 0 ? static_cast<size_t>(*place)
                                                          : first.size() - 1;
  const FirstRow kind = JudgeFirstRow(first, second, label);
  if (kind != FirstRow::kUnclear) return kind == FirstRow::kHeader;
  // Words among features are refused anyway, with the line.
  const bool words_may_be = spec_.words() == v1::DataSpec::WORDS_ONE_HOT;
  if (!words_may_be && !ParseNumber<double>(first[0]).has_value()) return true;
  return DatasetInvalid(
      file, {AtLine(1), "a first line of which it is clear whether it names the columns",
             SomeOf({first.begin(), first.end()}),
             "set data.header to present if it names the columns, else to absent"});
}

absl::Status CsvReader::TakeAgreement(const std::string& file, bool header) {
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
  const size_t columns = encoder_.columns().size();
  if (static_cast<size_t>(agreed.size()) != columns) {
    return DatasetInvalid(
        file, {"", fmt::format("{} columns of features, as all sites have", agreed.size()),
               fmt::format("{}", columns), "use files with the same columns at all sites"});
  }
  for (size_t i = 0; i < columns; ++i) {
    encoder_.SetAgreed(i, agreed.Get(static_cast<int>(i)), header);
  }
  return absl::OkStatus();
}

// The place of each column of features among the names of a file.
absl::Status CsvReader::MatchNames(const std::string& file, const std::vector<std::string>& names) {
  const auto& columns = encoder_.columns();
  std::vector<std::string> missing;
  std::vector<size_t> places;
  for (const RowEncoder::Column& column : columns) {
    const auto found = std::find(names.begin(), names.end(), column.name);
    if (found == names.end()) missing.push_back(column.name);
    places.push_back(static_cast<size_t>(found - names.begin()));
  }
  encoder_.SetPlaces(std::move(places));
  if (missing.empty() && names.size() == columns.size() + targets_.size()) return absl::OkStatus();
  std::vector<std::string> extra;
  for (const std::string& name : names) {
    const bool known = std::any_of(columns.begin(), columns.end(),
                                   [&](const auto& column) { return column.name == name; });
    if (!known && !targets_.HasName(name)) extra.push_back(name);
  }
  std::string found;
  if (!missing.empty()) found = "none called " + SomeOf(missing);
  if (!extra.empty()) found += (found.empty() ? "also " : ", and also ") + SomeOf(extra);
  return DatasetInvalid(file, {AtLine(1),
                               fmt::format("the columns that the training files have, in any "
                                           "order: {} of features and {}",
                                           columns.size(), SomeOf(targets_.names())),
                               found, "give the columns of all files the same names"});
}

absl::Status CsvReader::BeginTraining(ByteStream& stream, const Cells& first, bool header) {
  const std::string& file = stream.name();
  if (first.size() < 2 && spec_.target() != v1::DataSpec::TARGET_INPUT) {
    return DatasetInvalid(
        file, {AtLine(1),
               fmt::format("at least 2 columns separated by {} (features and a label)",
                           DelimiterWord(delimiter_)),
               fmt::format("{}", first.size()),
               "write one example a line, or set data.delimiter to comma, semicolon or tab; "
               "comments do not belong into the file"});
  }
  ESPALIER_RETURN_IF_ERROR(
      stream.options().CheckMemory(file, static_cast<int64_t>(first.size() * kBytesPerColumn)));
  has_header_ = header;
  const std::vector<std::string> names =
      header ? UniqueNames(first) : std::vector<std::string>(first.size());
  ESPALIER_RETURN_IF_ERROR(targets_.Find(file, names, header));
  builder_.SetTargets(HasTargets(spec_) ? static_cast<int64_t>(targets_.size()) : 0);
  std::vector<size_t> places;
  for (size_t i = 0; i < names.size(); ++i) {
    if (targets_.Has(i)) continue;
    encoder_.AddColumn(names[i]);
    places.push_back(i);
  }
  encoder_.SetPlaces(std::move(places));
  ESPALIER_RETURN_IF_ERROR(TakeAgreement(file, header));
  if (header && !spec_.agreement().columns().empty()) {
    ESPALIER_RETURN_IF_ERROR(MatchNames(file, names));
  }
  if (purpose_ == Purpose::kDescribe) {
    counts_.resize(encoder_.columns().size());
    for (Counts& counts : counts_) {
      if (spec_.words() != v1::DataSpec::WORDS_ONE_HOT) break;
      counts.met = std::make_unique<std::set<std::string, std::less<>>>();
    }
  }
  row_.resize(encoder_.features());
  begun_ = true;
  return builder_.SetFeatures(static_cast<int64_t>(row_.size()), file);
}

absl::Status CsvReader::BeginTest(const std::string& file, const Cells& first, bool header) {
  training_ = false;
  if (header && has_header_) {
    const std::vector<std::string> names = UniqueNames(first);
    ESPALIER_RETURN_IF_ERROR(MatchNames(file, names));
    return targets_.FindAgain(file, names);
  }
  // By place, as in the training file.
  if (!spec_.agreement().columns().empty() && has_header_) {
    return DatasetInvalid(file, {AtLine(1), "a header, as the training file has", "none",
                                 "begin the file with the names of its columns"});
  }
  targets_.StayInPlace();
  std::vector<size_t> places;
  for (size_t i = 0; i < encoder_.columns().size() + targets_.size(); ++i) {
    if (!targets_.Has(i)) places.push_back(i);
  }
  encoder_.SetPlaces(std::move(places));
  return absl::OkStatus();
}

absl::Status CsvReader::Begin(ByteStream& stream, const Cells& first, bool header) {
  return begun_ ? BeginTest(stream.name(), first, header) : BeginTraining(stream, first, header);
}

absl::Status CsvReader::ReadFile(ByteStream& stream) {
  RecordReader records(stream, DelimiterOf(spec_.delimiter()));
  const std::string& file = stream.name();
  const int64_t rows_before = builder_.rows();
  int64_t lines = 0;
  ESPALIER_ASSIGN_OR_RETURN(bool more, records.Next());
  const bool begun = more;
  if (more) {
    delimiter_ = records.delimiter();
    // Cells point into the reader, which goes on to the second line.
    const std::vector<std::string> kept(records.cells().begin(), records.cells().end());
    const Cells first(kept.begin(), kept.end());
    const int64_t line = records.line_number();
    ESPALIER_ASSIGN_OR_RETURN(more, records.Next());
    const bool alone = first.size() == 1 || (more && records.cells().size() != first.size());
    if (BeginsComment(first[0]) && alone) {
      return DatasetInvalid(
          file, {AtLine(line), "the names of the columns, or an example",
                 "a comment: " + Quote(first[0]), "remove the lines of comments at the top"});
    }
    ESPALIER_ASSIGN_OR_RETURN(const bool header,
                              HasHeader(file, first, more ? &records.cells() : nullptr));
    ESPALIER_RETURN_IF_ERROR(Begin(stream, first, header));
    if (!header) ESPALIER_RETURN_IF_ERROR(Take({file, line}, first));
    lines += header ? 0 : 1;
  }
  while (more) {
    ESPALIER_RETURN_IF_ERROR(Take({file, records.line_number()}, records.cells()));
    ++lines;
    ESPALIER_ASSIGN_OR_RETURN(more, records.Next());
  }
  if (builder_.rows() > rows_before) return absl::OkStatus();
  if (lines > 0) {
    return DatasetInvalid(file, {"", "an example without missing values, as data.missing is drop",
                                 fmt::format("none in {} lines", lines),
                                 "remove the column that is empty (a delimiter at the end of each "
                                 "line makes one), or set data.missing to mean"});
  }
  return DatasetInvalid(
      file,
      {"", "one example a line", begun ? "none below the names of the columns" : "an empty file",
       begun ? "write values and label on lines of their own, with line ends between them"
             : "write values and label separated by ','"});
}

absl::Status CsvReader::CountRow(const Place& place, const Cells& cells) {
  for (size_t i = 0; i < counts_.size(); ++i) {
    Counts& column = counts_[i];
    const std::string_view cell = cells[encoder_.places()[i]];
    float value = 0;
    const bool number = ParseFeature(cell, &value);
    if (!number && IsMissing(cell)) {
      ++column.missing;
      continue;
    }
    if (number && training_) {
      column.sum += value;
      ++column.values;
    }
    if (column.met == nullptr) continue;
    column.has_words = column.has_words || !number;
    // Numbers among words are words, too; of columns of numbers only the beginning is kept.
    const bool full = column.met->size() > kMaxWords;
    if (!full && column.met->find(cell) == column.met->end()) column.met->emplace(cell);
    if (column.has_words && column.met->size() > kMaxWords) {
      return DatasetInvalid(
          place.file, {encoder_.Where({place.file, place.line}, i),
                       fmt::format("at most {} different words in a column", kMaxWords), "more",
                       "remove the column: it names examples, or holds dates or text"});
    }
  }
  return absl::OkStatus();
}

absl::Status CsvReader::Take(const Place& place, const Cells& cells) {
  const size_t width = encoder_.columns().size() + targets_.size();
  if (cells.size() != width) {
    return DatasetInvalid(
        place.file,
        {AtLine(place.line), fmt::format("{} columns as in the first line", width),
         fmt::format("{}", cells.size()),
         "complete the line or remove it; comments and totals do not belong into the file"});
  }
  bool gap = false;
  ESPALIER_RETURN_IF_ERROR(
      encoder_.Encode({place.file, place.line, delimiter_}, cells, row_.data(), &gap));
  ESPALIER_ASSIGN_OR_RETURN(const bool taken, TakeTargets(place, cells, gap));
  if (!taken) return absl::OkStatus();
  if (purpose_ == Purpose::kDescribe) ESPALIER_RETURN_IF_ERROR(CountRow(place, cells));
  return builder_.AppendRow(row_);
}

// Whether the row is an example. `gap`: one of its features is missing.
absl::StatusOr<bool> CsvReader::TakeTargets(const Place& place, const Cells& cells, bool gap) {
  const bool drops = spec_.missing() == v1::DataSpec::MISSING_DROP;
  if (HasTargets(spec_)) {
    ESPALIER_RETURN_IF_ERROR(targets_.Read(place.file, place.line, cells, target_row_, &gap));
  }
  const bool learns_class = !HasTargets(spec_) && spec_.target() != v1::DataSpec::TARGET_INPUT;
  const std::string_view label = learns_class ? cells[targets_.place(0)] : std::string_view();
  if (drops && (gap || (learns_class && IsMissingLabel(label)))) return false;
  if (learns_class) {
    ESPALIER_RETURN_IF_ERROR(AddLabel(place, label));
  } else {
    builder_.AppendLabel(0);
    if (HasTargets(spec_)) builder_.AppendTargets(target_row_);
  }
  return true;
}

absl::Status CsvReader::AddLabel(const Place& place, std::string_view text) {
  const int32_t number = labels_.Of(text);
  builder_.AppendLabel(number);
  if (static_cast<size_t>(number) < origins_.size()) return absl::OkStatus();
  origins_.push_back({place.file, place.line});
  const auto complain = [&](std::string expected, std::string found, const char* fix) {
    return DatasetInvalid(place.file,
                          {fmt::format("line {}, column {}", place.line, targets_.place(0) + 1),
                           std::move(expected), std::move(found), fix});
  };
  constexpr char kOtherColumn[] = "set data.label_column to the column of the labels";
  const bool fractional = ParseNumber<double>(text) && !ParseWhole(text);
  if (IsMissingLabel(text) || fractional) {
    return complain(
        "a label: a whole number from 0 or a word", text.empty() ? "an empty cell" : Quote(text),
        fractional ? "set data.label_column to the column of the labels, or data.target "
                     "to values if numbers are to be learned"
                   : "correct the line, set data.missing to drop, or set "
                     "data.label_column to the column of the labels");
  }
  if (text.size() > kLongestLabel) {
    return complain(fmt::format("a label of at most {} characters", kLongestLabel),
                    fmt::format("{}", text.size()), kOtherColumn);
  }
  if (labels_.size() > kMaxClasses) {
    return complain(fmt::format("at most {} classes", kMaxClasses), "more", kOtherColumn);
  }
  return absl::OkStatus();
}

absl::Status CsvReader::NumberLabels(const std::vector<std::string>& labels,
                                     std::vector<int32_t>& classes) const {
  for (size_t i = 0; i < labels.size(); ++i) {
    const int64_t value = *ParseWhole(labels[i]);
    if (value < 0 || value >= kMaxClasses) {
      return DatasetInvalid(
          origins_[i].file,
          {LabelAt(origins_[i].line), fmt::format("a label in 0..{}", kMaxClasses - 1),
           std::to_string(value),
           "number the classes from 0, or set data.label_column to the column of the labels"});
    }
    classes[i] = static_cast<int32_t>(value);
  }
  return absl::OkStatus();
}

absl::Status CsvReader::FinishLabels() {
  if (HasTargets(spec_) || spec_.target() == v1::DataSpec::TARGET_INPUT) return absl::OkStatus();
  const std::vector<std::string> labels = labels_.Take();
  std::vector<int32_t> classes(labels.size());
  const auto is_number = [](const std::string& label) { return ParseWhole(label).has_value(); };
  const auto number = std::find_if(labels.begin(), labels.end(), is_number);
  const auto word = std::find_if_not(labels.begin(), labels.end(), is_number);
  const auto& agreed = spec_.agreement().classes();
  if (word == labels.end() && agreed.empty()) {
    ESPALIER_RETURN_IF_ERROR(NumberLabels(labels, classes));
    builder_.MapLabels(classes, {});
    return absl::OkStatus();
  }
  const auto complain = [&](const auto& label, std::string expected, const char* fix) {
    const Origin& at = origins_[static_cast<size_t>(label - labels.begin())];
    return DatasetInvalid(at.file, {LabelAt(at.line), std::move(expected), Quote(*label), fix});
  };
  if (agreed.empty() && number != labels.end()) {
    const Origin& of_number = origins_[static_cast<size_t>(number - labels.begin())];
    return complain(
        word,
        fmt::format(
            "labels of one kind: a whole number as {} in line {} of {}, or words everywhere",
            Quote(*number), of_number.line, of_number.file),
        "correct the line, set data.header to present if it is a header, or write all labels as "
        "words");
  }
  const bool local = spec_.partition().kind() == v1::Partition::KIND_LOCAL;
  if (agreed.empty() && local && purpose_ == Purpose::kLoad) {
    return complain(word,
                    "a whole number, as the sites have not agreed on names of classes (files of "
                    "more than 256 MiB are not read for that)",
                    "number the classes in the same way at all sites");
  }
  class_names_.assign(agreed.begin(), agreed.end());
  if (agreed.empty()) {
    class_names_ = labels;
    std::sort(class_names_.begin(), class_names_.end());
  }
  for (auto label = labels.begin(); label != labels.end(); ++label) {
    const auto place = std::lower_bound(class_names_.begin(), class_names_.end(), *label);
    if (place == class_names_.end() || *place != *label) {
      return complain(label, "one of the classes that the sites agreed on: " + SomeOf(class_names_),
                      "correct the label, or submit the job again");
    }
    classes[static_cast<size_t>(label - labels.begin())] =
        static_cast<int32_t>(place - class_names_.begin());
  }
  builder_.MapLabels(classes, class_names_);
  return absl::OkStatus();
}

void CsvReader::Describe(v1::DatasetInfo& info) const {
  int64_t features = 0;
  for (size_t i = 0; i < counts_.size(); ++i) {
    const Counts& column = counts_[i];
    v1::DatasetInfo::Column& into = *info.add_columns();
    into.set_name(encoder_.columns()[i].name);
    into.set_missing(column.missing);
    if (spec_.missing() == v1::DataSpec::MISSING_MEAN) {
      into.set_sum(column.sum);
      into.set_values(column.values);
    }
    if (column.has_words) into.mutable_words()->Assign(column.met->begin(), column.met->end());
    features += std::max(1, into.words_size());
  }
  info.set_features(features);
  info.mutable_class_names()->Assign(class_names_.begin(), class_names_.end());
  info.set_header(has_header_);
  info.set_delimiter(DelimiterName(delimiter_));
  if (HasTargets(spec_)) {
    info.set_targets(static_cast<int64_t>(targets_.size()));
    if (!has_header_) return;
    info.mutable_target_columns()->Assign(targets_.names().begin(), targets_.names().end());
  } else if (targets_.size() > 0) {
    info.set_label_column(has_header_ ? targets_.names()[0]
                                      : std::to_string(targets_.training_place(0)));
  }
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
    const auto group = ParseNumber<int64_t>(text);
    if (!group.has_value()) {
      return DatasetInvalid(
          stream.name(), {AtLine(lines.line_number()), "one integer, the group's id", Quote(line),
                          "write one integer a line"});
    }
    groups.push_back(*group);
    ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(
        stream.name(), static_cast<int64_t>(groups.capacity() * sizeof(int64_t))));
  }
  return groups;
}

}  // namespace espalier::worker::data
