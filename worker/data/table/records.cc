#include "worker/data/table/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/table/encoding.h"

namespace espalier::worker::data {
namespace {

constexpr size_t kBufferBytes = size_t{256} * 1024;
constexpr size_t kLongestRecord = size_t{16} << 20;

// Kinds of bytes. Everything but kPlain stops the scan of a cell.
constexpr uint8_t kPlain = 0;
constexpr uint8_t kEndOfCell = 1;
constexpr uint8_t kEndOfLine = 2;
constexpr uint8_t kHigh = 3;  // not ASCII
constexpr uint8_t kZeroByte = 4;

}  // namespace

RecordReader::RecordReader(ByteStream& stream, char delimiter)
    : stream_(stream), delimiter_(delimiter) {}

void RecordReader::SetDelimiter(char delimiter) {
  delimiter_ = delimiter;
  for (size_t byte = 0; byte < kinds_.size(); ++byte) kinds_[byte] = byte < 0x80 ? kPlain : kHigh;
  kinds_['\n'] = kinds_['\r'] = kEndOfLine;
  kinds_['\0'] = kZeroByte;
  kinds_[static_cast<uint8_t>(delimiter)] = kEndOfCell;
}

bool RecordReader::IsBlank(char c) const { return c == ' ' || (c == '\t' && delimiter_ != '\t'); }

// Each call reads half as much as is kept, so that a long record is scanned a few times only.
absl::Status RecordReader::Fill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t kept = buffer_.size();
  if (kept > kLongestRecord) {
    return DatasetInvalid(
        stream_.name(),
        {AtLine(next_line_), fmt::format("at most {} characters", kLongestRecord), "more",
         "check that this is a text file with line ends, and that quotes in it "
         "are closed"});
  }
  const size_t wanted = std::max(kBufferBytes, kept / 2);
  buffer_.resize(kept + wanted);
  ESPALIER_ASSIGN_OR_RETURN(const size_t got, stream_.Read(buffer_.data() + kept, wanted));
  buffer_.resize(kept + got);
  at_end_ = got < wanted;
  return absl::OkStatus();
}

absl::Status RecordReader::Begin() {
  begun_ = true;
  ESPALIER_RETURN_IF_ERROR(Fill());
  ESPALIER_RETURN_IF_ERROR(CheckTextEncoding(buffer_, stream_.name()));
  if (buffer_.starts_with(kUtf8ByteOrderMark)) begin_ = kUtf8ByteOrderMark.size();
  const std::string_view sample = std::string_view(buffer_).substr(begin_);
  const size_t line_end = std::min(sample.find_first_of("\r\n"), sample.size());
  const char named = SeparatorLine(sample.substr(0, line_end));
  if (named != kFindDelimiter) {
    const bool two = sample.substr(line_end).starts_with("\r\n");
    begin_ = std::min(begin_ + line_end + (two ? 2 : 1), buffer_.size());
    ++next_line_;
    if (delimiter_ == kFindDelimiter) delimiter_ = named;
  }
  SetDelimiter(delimiter_ == kFindDelimiter ? FindDelimiter(sample) : delimiter_);
  return absl::OkStatus();
}

absl::StatusOr<bool> RecordReader::Next() {
  if (!begun_) ESPALIER_RETURN_IF_ERROR(Begin());
  for (;;) {
    if (begin_ == buffer_.size() && at_end_) return false;
    Scan scan = ScanRecord();
    while (scan == Scan::kMore) {
      ESPALIER_RETURN_IF_ERROR(Fill());
      scan = ScanRecord();
    }
    line_number_ = next_line_;
    const char* const data = buffer_.data();
    text_ = std::string_view(data + begin_, next_begin_ - begin_);
    if (scan != Scan::kRecord) return Complain(scan);
    while (!text_.empty() && (text_.back() == '\n' || text_.back() == '\r')) text_.remove_suffix(1);
    next_line_ += line_ends_;
    begin_ = next_begin_;
    const bool blank = cells_.size() == 1 && cells_[0].empty() && text_.find('"') == text_.npos;
    if (blank) continue;
    FinishCells();
    return true;
  }
}

bool RecordReader::TakeLineEnd(const char*& at, const char* end) {
  if (*at == '\r') {
    if (at + 1 == end && !at_end_) return false;
    if (at + 1 < end && at[1] == '\n') ++at;
  }
  ++at;
  ++line_ends_;
  return true;
}

// Appends the cell that begins at `at` and goes to the delimiter or line end there.
RecordReader::Scan RecordReader::ScanPlainCell(const char*& at, const char* end) {
  const char* const first = at;
  for (;;) {
    // The string's final zero stops the loop at the end of the buffer.
    uint8_t kind = kinds_[static_cast<uint8_t>(*at)];
    while (kind == kPlain) kind = kinds_[static_cast<uint8_t>(*++at)];
    if (kind == kHigh) {
      has_high_bytes_ = true;
      ++at;
      continue;
    }
    if (kind == kZeroByte) {
      if (at != end) return Scan::kZero;
      if (!at_end_) return Scan::kMore;
    }
    break;
  }
  const char* last = at;
  while (last > first && IsBlank(last[-1])) --last;
  cells_.emplace_back(first, static_cast<size_t>(last - first));
  return Scan::kRecord;
}

// Appends the cell whose quote is at `at`, and leaves `at` at the delimiter or line end after it.
RecordReader::Scan RecordReader::ScanQuotedCell(const char*& at, const char* end) {
  const char* const first = ++at;
  bool doubled = false;
  for (;;) {
    for (; at < end && *at != '"'; ++at) {
      if (*at == '\n' || (*at == '\r' && at[1] != '\n')) ++line_ends_;
      if (static_cast<uint8_t>(*at) >= 0x80) has_high_bytes_ = true;
      if (*at == '\0') return Scan::kZero;
    }
    if (at == end) return at_end_ ? Scan::kOpenQuote : Scan::kMore;
    if (at + 1 == end && !at_end_) return Scan::kMore;
    if (at[1] != '"') break;
    doubled = true;
    at += 2;
  }
  if (doubled) doubled_.push_back(cells_.size());
  cells_.emplace_back(first, static_cast<size_t>(at - first));
  ++at;
  while (at < end && IsBlank(*at)) ++at;
  if (at == end) return at_end_ ? Scan::kRecord : Scan::kMore;
  const uint8_t kind = kinds_[static_cast<uint8_t>(*at)];
  return kind == kEndOfCell || kind == kEndOfLine ? Scan::kRecord : Scan::kQuoteInside;
}

RecordReader::Scan RecordReader::ScanRecord() {
  cells_.clear();
  doubled_.clear();
  has_high_bytes_ = false;
  line_ends_ = 0;
  const char* const data = buffer_.data();
  const char* const end = data + buffer_.size();
  const char* at = data + begin_;
  for (;;) {
    while (at < end && IsBlank(*at)) ++at;
    const bool quoted = at < end && *at == '"';
    const Scan scan = quoted ? ScanQuotedCell(at, end) : ScanPlainCell(at, end);
    next_begin_ = static_cast<size_t>(at - data);
    if (scan != Scan::kRecord) return scan;
    if (at == end) return Scan::kRecord;
    if (kinds_[static_cast<uint8_t>(*at)] == kEndOfLine) {
      if (!TakeLineEnd(at, end)) return Scan::kMore;
      next_begin_ = static_cast<size_t>(at - data);
      return Scan::kRecord;
    }
    ++at;
  }
}

absl::Status RecordReader::Complain(Scan scan) const {
  if (scan == Scan::kZero) return ZeroByte(stream_.name(), next_line_ + line_ends_);
  const std::string place = AtLine(next_line_);
  if (scan == Scan::kOpenQuote) {
    return DatasetInvalid(stream_.name(),
                          {place, "cells with paired double quotes",
                           Quote(text_) + ", in which the quote is open to the end of the file",
                           "close the quote, with the delimiter or the line's end after it"});
  }
  return DatasetInvalid(
      stream_.name(),
      {place,
       fmt::format("{} or the line's end after a closing double quote", DelimiterWord(delimiter_)),
       Quote(text_) + ", where paired double quotes end before the cell does",
       "write a double quote inside of quotes twice, and quote the whole cell or nothing of it"});
}

void RecordReader::FinishCells() {
  for (const size_t index : doubled_) {
    std::string_view& cell = cells_[index];
    char* out = buffer_.data() + (cell.data() - buffer_.data());
    const char* const first = out;
    for (size_t i = 0; i < cell.size(); ++i) {
      *out++ = cell[i];
      if (cell[i] == '"') ++i;
    }
    cell = std::string_view(first, static_cast<size_t>(out - first));
  }
  if (!has_high_bytes_) return;
  MakeUtf8(cells_, text_.size(), converted_);
}

}  // namespace espalier::worker::data
