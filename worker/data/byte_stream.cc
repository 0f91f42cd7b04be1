#include "worker/data/byte_stream.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/table/encoding.h"

namespace espalier::worker::data {
namespace {

constexpr unsigned kBufferBytes = 256 * 1024;
// Limits are looked at after every so many bytes.
constexpr size_t kReadStep = size_t{1} << 20;
constexpr size_t kLongestLine = size_t{16} << 20;

absl::Status TooLarge(const std::string& name, const LoadOptions& options, std::string found) {
  return DatasetTooLarge(
      name, {"", fmt::format("at most {} bytes after decompression", options.max_file_bytes),
             std::move(found), "divide the data set into several"});
}

}  // namespace

absl::StatusOr<ByteStream> ByteStream::Open(UniqueFd file, std::string name,
                                            const LoadOptions& options) {
  struct stat about {};
  // A plain file tells its size before a byte is read.
  if (!name.ends_with(".gz") && fstat(file.get(), &about) == 0 &&
      int64_t{about.st_size} > options.max_file_bytes) {
    return TooLarge(name, options, fmt::format("{}", about.st_size));
  }
  gzFile stream = gzdopen(file.get(), "rb");
  if (stream == nullptr) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                           "no memory to open data set file " + name);
  }
  file.Release();
  gzbuffer(stream, kBufferBytes);
  return ByteStream(stream, std::move(name), options);
}

absl::Status ByteStream::CheckLimits(int64_t got) {
  position_ += got;
  if (options_.bytes_left != nullptr) *options_.bytes_left -= got;
  if (position_ > options_.max_file_bytes ||
      (options_.bytes_left != nullptr && *options_.bytes_left < 0)) {
    return TooLarge(name_, options_, "more");
  }
  return options_.CheckGoesOn();
}

absl::StatusOr<size_t> ByteStream::Read(void* out, size_t size) {
  size_t done = 0;
  while (done < size) {
    const auto wanted = static_cast<unsigned>(std::min(size - done, kReadStep));
    const int got = gzread(file_.get(), static_cast<char*>(out) + done, wanted);
    if (got > 0) {
      done += static_cast<size_t>(got);
      ESPALIER_RETURN_IF_ERROR(CheckLimits(got));
    }
    if (got == static_cast<int>(wanted)) continue;
    int code = Z_OK;
    const char* text = gzerror(file_.get(), &code);
    if (got < 0 || code != Z_OK) {
      return DatasetInvalid(
          name_, {fmt::format("after {} bytes", position_), "a complete gzip or plain file",
                  code == Z_BUF_ERROR ? "a truncated gzip file" : Quote(text),
                  "copy the file again and check it with 'gzip -t'"});
    }
    break;
  }
  return done;
}

absl::Status ByteStream::ReadExactly(void* out, size_t size, std::string_view what) {
  ESPALIER_ASSIGN_OR_RETURN(const size_t got, Read(out, size));
  return got == size ? absl::OkStatus() : EndsEarly(size, got, what);
}

absl::Status ByteStream::ReadRow(void* out, size_t size, int64_t row) {
  ESPALIER_ASSIGN_OR_RETURN(const size_t got, Read(out, size));
  return got == size ? absl::OkStatus() : EndsEarly(size, got, fmt::format("row {}", row));
}

absl::Status ByteStream::EndsEarly(size_t wanted, size_t got, std::string_view what) const {
  if (position_ == 0) {
    return DatasetInvalid(name_, {"", std::string(what), "an empty file", "copy the file again"});
  }
  return DatasetInvalid(name_, {"", fmt::format("{} bytes of {}", wanted, what),
                                fmt::format("only {} before the end of the file", got),
                                "the file is truncated, copy it again"});
}

absl::Status ByteStream::ExpectEnd(std::string_view declared) {
  char extra = 0;
  ESPALIER_ASSIGN_OR_RETURN(const size_t got, Read(&extra, 1));
  if (got == 0) return absl::OkStatus();
  return DatasetInvalid(name_, {fmt::format("after {} bytes", position_ - 1),
                                fmt::format("the end of the file, since it declares {}", declared),
                                "more bytes", "write the file again with the right header"});
}

LineReader::LineReader(ByteStream& stream) : stream_(stream) {}

absl::Status LineReader::Fill() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  const size_t kept = buffer_.size();
  if (kept > kLongestLine) {
    return DatasetInvalid(stream_.name(),
                          {fmt::format("line {}", line_number_ + 1),
                           fmt::format("at most {} characters", kLongestLine), "more",
                           "check that this is a text file with line ends"});
  }
  buffer_.resize(kept + kBufferBytes);
  ESPALIER_ASSIGN_OR_RETURN(const size_t got, stream_.Read(buffer_.data() + kept, kBufferBytes));
  buffer_.resize(kept + got);
  at_end_ = got < kBufferBytes;
  return absl::OkStatus();
}

absl::StatusOr<bool> LineReader::Next(std::string_view* line) {
  const auto is_end = [](char c) { return c == '\n' || c == '\r'; };
  size_t end = begin_;
  for (;;) {
    const auto from = buffer_.begin() + static_cast<int64_t>(end);
    end = static_cast<size_t>(std::find_if(from, buffer_.end(), is_end) - buffer_.begin());
    // At the end of the buffer it is not known whether a line feed follows a carriage return.
    const bool whole = end + 1 < buffer_.size() || (end < buffer_.size() && buffer_[end] == '\n');
    if (whole || at_end_) break;
    end -= begin_;
    ESPALIER_RETURN_IF_ERROR(Fill());
    if (line_number_ == 0) ESPALIER_RETURN_IF_ERROR(CheckTextEncoding(buffer_, stream_.name()));
  }
  if (begin_ == buffer_.size()) return false;
  *line = std::string_view(buffer_).substr(begin_, end - begin_);
  begin_ = std::min(end + 1, buffer_.size());
  const bool two = end + 1 < buffer_.size() && buffer_[end] == '\r' && buffer_[end + 1] == '\n';
  if (two) ++begin_;
  ++line_number_;
  return true;
}

}  // namespace espalier::worker::data
