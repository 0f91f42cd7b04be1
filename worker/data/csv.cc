#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/readers.h"

namespace espalier::worker::data {
namespace {

constexpr std::string_view kBlank = " \t";
constexpr size_t kLongestLabel = 256;

std::string_view Trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

template <typename T>
std::optional<T> ParseWhole(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

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

// Splits at commas outside of double quotes; outer quotes and blanks are taken off. False when a
// quote is not closed or is followed by anything but a comma.
bool SplitCells(std::string_view line, std::vector<std::string_view>& cells) {
  cells.clear();
  for (;;) {
    const size_t start = std::min(line.find_first_not_of(kBlank), line.size());
    if (start < line.size() && line[start] == '"') {
      size_t close = line.find('"', start + 1);
      while (close != std::string_view::npos && line.substr(close + 1).starts_with('"')) {
        close = line.find('"', close + 2);  // a doubled quote stands for one inside
      }
      if (close == std::string_view::npos) return false;
      cells.push_back(line.substr(start + 1, close - start - 1));
      const size_t next = line.find_first_not_of(kBlank, close + 1);
      if (next == std::string_view::npos) return true;
      if (line[next] != ',') return false;
      line.remove_prefix(next + 1);
    } else {
      const size_t comma = line.find(',');
      cells.push_back(Trim(line.substr(0, comma)));
      if (comma == std::string_view::npos) return true;
      line.remove_prefix(comma + 1);
    }
  }
}

std::string Line(int64_t line) { return fmt::format("line {}", line); }

}  // namespace

absl::Status CsvReader::CheckColumns(const std::string& file) {
  if (columns_ != 0) return absl::OkStatus();
  if (cells_.size() < 2) {
    return DatasetInvalid(file,
                          {Line(1), "at least 2 columns separated by ',' (features and a label)",
                           fmt::format("{}", cells_.size()),
                           "write one example a line with commas between the values"});
  }
  columns_ = cells_.size();
  if (label_column_ < 0) label_column_ = static_cast<int>(columns_) - 1;
  if (static_cast<size_t>(label_column_) >= columns_) {
    return DatasetInvalid(file, {"", fmt::format("label column {}, counted from 0", label_column_),
                                 fmt::format("columns 0 to {}", columns_ - 1),
                                 "set data.label_column to the label's place, or -1 for the last"});
  }
  row_.resize(columns_ - 1);
  return builder_.SetFeatures(static_cast<int64_t>(columns_) - 1, file);
}

// A header names its features: at least half of the cells that should be numbers are not. One bad
// cell in a first line of numbers is an error of the data, not a header.
bool CsvReader::LooksLikeHeader() const {
  size_t words = 0;
  float unused = 0;
  for (size_t i = 0; i < cells_.size(); ++i) {
    if (static_cast<int>(i) != label_column_ && !ParseFeature(cells_[i], &unused)) ++words;
  }
  return 2 * words >= cells_.size() - 1;
}

absl::Status CsvReader::ReadFile(ByteStream& stream) {
  LineReader lines(stream);
  const int64_t rows_before = builder_.rows();
  std::string_view line;
  for (bool first = true;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next(&line));
    if (!more) break;
    constexpr std::string_view kByteOrderMark = "\xEF\xBB\xBF";
    if (first && line.starts_with(kByteOrderMark)) line.remove_prefix(kByteOrderMark.size());
    if (Trim(line).empty()) continue;
    if (!SplitCells(line, cells_)) {
      return DatasetInvalid(
          stream.name(), {Line(lines.line_number()), "cells with paired double quotes", Quote(line),
                          "close the quote, with a comma after it"});
    }
    if (first) {
      first = false;
      ESPALIER_RETURN_IF_ERROR(CheckColumns(stream.name()));
      if (cells_.size() == columns_ && LooksLikeHeader()) continue;
    }
    ESPALIER_RETURN_IF_ERROR(AddRow(stream.name(), lines.line_number()));
  }
  if (builder_.rows() > rows_before) return absl::OkStatus();
  return DatasetInvalid(stream.name(), {"", "one example a line", "an empty file",
                                        "write values and label separated by ','"});
}

absl::Status CsvReader::AddRow(const std::string& file, int64_t line) {
  if (cells_.size() != columns_) {
    return DatasetInvalid(file,
                          {Line(line), fmt::format("{} columns as in the first line", columns_),
                           fmt::format("{}", cells_.size()), "complete the line or remove it"});
  }
  size_t feature = 0;
  for (size_t i = 0; i < cells_.size(); ++i) {
    if (static_cast<int>(i) == label_column_) continue;
    if (ParseFeature(cells_[i], &row_[feature++])) continue;
    return DatasetInvalid(
        file, {fmt::format("line {}, column {}", line, i + 1), "a finite number",
               cells_[i].empty() ? "an empty cell" : Quote(cells_[i]),
               "put a number there; words are only allowed in the label column and in a first line "
               "of names"});
  }
  ESPALIER_RETURN_IF_ERROR(AddLabel(cells_[static_cast<size_t>(label_column_)], file, line));
  return builder_.AppendRow(row_);
}

absl::Status CsvReader::AddLabel(std::string_view text, const std::string& file, int64_t line) {
  const auto [known, is_new] =
      label_ids_.try_emplace(std::string(text), static_cast<int32_t>(labels_.size()));
  if (is_new) {
    const std::string where = fmt::format("line {}, column {}", line, label_column_ + 1);
    const bool fractional = ParseWhole<double>(text) && !ParseWhole<int64_t>(text);
    if (text.empty() || fractional) {
      return DatasetInvalid(file, {where, "a label: an integer from 0 or a word",
                                   text.empty() ? "an empty cell" : Quote(text),
                                   "set data.label_column to the column of the labels"});
    }
    if (text.size() > kLongestLabel) {
      return DatasetInvalid(
          file,
          {where, fmt::format("a label of at most {} characters", kLongestLabel),
           fmt::format("{}", text.size()), "set data.label_column to the column of the labels"});
    }
    if (static_cast<int64_t>(labels_.size()) == kMaxClasses) {
      return DatasetInvalid(file, {where, fmt::format("at most {} classes", kMaxClasses), "more",
                                   "set data.label_column to the column of the labels"});
    }
    labels_.push_back({std::string(text), file, line});
  }
  builder_.AppendLabel(known->second);
  return absl::OkStatus();
}

absl::Status CsvReader::FinishLabels() {
  std::vector<int32_t> classes(labels_.size());
  const bool integers = std::all_of(labels_.begin(), labels_.end(), [](const Label& label) {
    return ParseWhole<int64_t>(label.text).has_value();
  });
  if (integers) {
    for (size_t i = 0; i < labels_.size(); ++i) {
      const int64_t value = *ParseWhole<int64_t>(labels_[i].text);
      if (value < 0 || value >= kMaxClasses) {
        return DatasetInvalid(
            labels_[i].file,
            {fmt::format("line {}, column {}", labels_[i].line, label_column_ + 1),
             fmt::format("a label in 0..{}", kMaxClasses - 1), std::to_string(value),
             "number the classes from 0, or set data.label_column to the column of the labels"});
      }
      classes[i] = static_cast<int32_t>(value);
    }
    builder_.MapLabels(classes, {});
    return absl::OkStatus();
  }
  std::vector<std::string> names;
  for (const Label& label : labels_) names.push_back(label.text);
  std::sort(names.begin(), names.end());
  for (size_t i = 0; i < labels_.size(); ++i) {
    const auto place = std::lower_bound(names.begin(), names.end(), labels_[i].text);
    classes[i] = static_cast<int32_t>(place - names.begin());
  }
  builder_.MapLabels(classes, std::move(names));
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
