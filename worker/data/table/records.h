// Records of a table in a text file: comma-separated values after RFC 4180, and what people's
// programs make of them. All tables of the project are read by this reader.
//
// Record:      a line, or several when a cell in double quotes holds line ends. Lines end with LF,
//              CR LF or CR. Blank lines are left out.
// Cells:       what is between delimiters, without blanks around. A cell that begins with a double
//              quote ends with one; delimiters, blanks and line ends in between belong to it, and
//              a doubled quote is one quote. A quote elsewhere is an ordinary character.
// Delimiter:   comma, semicolon or tab; given by the caller, named by a first line "sep=;" as
//              spreadsheets write it, or found in the beginning of the file (delimiter.h).
// Text:        always UTF-8; see encoding.h.
// Bounds:      a record has at most 16 MiB, so that a quote that is never closed ends soon.
// Ownership:   cells point into the reader and are valid until the next call of Next().
// Memory:      a buffer of the longest record, at least 256 KiB. Nothing is allocated for a cell.
// Threading:   not thread-safe.
// Errors:      DATASET_INVALID with file and line: an open quote, a quote in the middle, a record
//              that is too long, another encoding. Those of the stream.
//
//   RecordReader records(stream);
//   for (;;) {
//     ESPALIER_ASSIGN_OR_RETURN(const bool more, records.Next());
//     if (!more) break;
//     Use(records.cells(), records.line_number());
//   }
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/byte_stream.h"
#include "worker/data/table/delimiter.h"

namespace espalier::worker::data {

class RecordReader {
 public:
  // `stream` is borrowed and at its beginning. Any ASCII character but quotes and blanks can be
  // given as `delimiter`; then a first line "sep=…" is left out and does not count.
  explicit RecordReader(ByteStream& stream, char delimiter = kFindDelimiter);

  // Reads the next record; false at the end of the file.
  absl::StatusOr<bool> Next();

  const std::vector<std::string_view>& cells() const { return cells_; }
  // The line on which the record begins, from 1.
  int64_t line_number() const { return line_number_; }
  // The record as it is in the file, for messages.
  std::string_view text() const { return text_; }
  // Known after the first call of Next().
  char delimiter() const { return delimiter_; }
  const std::string& name() const { return stream_.name(); }

 private:
  enum class Scan { kRecord, kMore, kOpenQuote, kQuoteInside, kZero };

  absl::Status Begin();
  absl::Status Fill();
  void SetDelimiter(char delimiter);
  bool IsBlank(char c) const;
  // Finds the cells of the record that begins at begin_, and where the next one does.
  Scan ScanRecord();
  Scan ScanPlainCell(const char*& at, const char* end);
  Scan ScanQuotedCell(const char*& at, const char* end);
  // Takes the line end at `at`; false when the buffer ends before it is clear which it is.
  bool TakeLineEnd(const char*& at, const char* end);
  absl::Status Complain(Scan scan) const;
  // Doubled quotes become one, Latin-1 becomes UTF-8.
  void FinishCells();

  ByteStream& stream_;
  std::string buffer_;
  size_t begin_ = 0;  // of what was not handed out yet
  bool at_end_ = false;
  bool begun_ = false;
  char delimiter_;
  std::array<uint8_t, 256> kinds_ = {};  // of bytes; see records.cc
  std::vector<std::string_view> cells_;
  std::string_view text_;
  int64_t line_number_ = 0;
  int64_t next_line_ = 1;
  // Of the record that is scanned.
  int64_t line_ends_ = 0;
  size_t next_begin_ = 0;
  bool has_high_bytes_ = false;
  std::vector<size_t> doubled_;  // cells with doubled quotes
  std::string converted_;        // cells that were Latin-1
};

}  // namespace espalier::worker::data
