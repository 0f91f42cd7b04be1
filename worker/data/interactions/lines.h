// Records of the tables in this folder, whatever stands between their cells. Internal to this
// folder.
//
// Formats:     CSV as records.h reads it; MovieLens' files, whose lines have "::", a tab or '|'
//              between cells and no quotes.
// Text:        cells are UTF-8; one that is not is taken as ISO 8859-1, in all formats.
// Ownership:   cells are valid until the next call of Next(). `stream` is borrowed.
// Threading:   not thread-safe.
// Errors:      those of the two readers.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/byte_stream.h"
#include "worker/data/table/records.h"

namespace espalier::worker::data {

class TableLines {
 public:
  static TableLines Csv(ByteStream& stream, char delimiter = kFindDelimiter);
  // MovieLens; an empty separator is "::" where the first line has it, else a tab.
  static TableLines Plain(ByteStream& stream, std::string_view separator = {});

  // Reads the next line that is not blank; false at the end of the file.
  absl::StatusOr<bool> Next();

  const std::vector<std::string_view>& cells() const {
    return csv_.has_value() ? csv_->cells() : cells_;
  }
  int64_t line_number() const {
    return csv_.has_value() ? csv_->line_number() : lines_->line_number();
  }
  std::string_view text() const { return csv_.has_value() ? csv_->text() : text_; }
  // For messages: "','", "a tab".
  std::string separator_word() const;
  // Whether numbers may have a decimal comma: where it separates no cells.
  bool has_decimal_commas() const { return csv_.has_value() && csv_->delimiter() == ';'; }

 private:
  TableLines() = default;

  void Split();

  std::optional<RecordReader> csv_;
  // Otherwise.
  std::optional<LineReader> lines_;
  std::string_view separator_;
  std::string_view text_;
  std::vector<std::string_view> cells_;
  std::string converted_;  // cells that were Latin-1
};

}  // namespace espalier::worker::data
