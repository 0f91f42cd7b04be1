#include "common/io/gzip.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "common/base/status.h"
#include "common/io/posix_error.h"

namespace espalier::io {
namespace {

constexpr size_t kBlockBytes = 256 * 1024;
constexpr int kGzipWindow = 16 + MAX_WBITS;

// Reads a descriptor in blocks.
class BlockReader {
 public:
  BlockReader(int fd, std::string_view name) : fd_(fd), name_(name), block_(kBlockBytes) {}

  // The next piece; empty at the end of the file.
  absl::StatusOr<std::string_view> Next() {
    size_t filled = 0;
    while (filled < block_.size()) {
      const ssize_t got = pread(fd_, block_.data() + filled, block_.size() - filled, offset_);
      if (got < 0 && errno == EINTR) {
        continue;
      }
      if (got < 0) {
        return PosixError(errno, "read", name_);
      }
      if (got == 0) {
        break;
      }
      filled += static_cast<size_t>(got);
      offset_ += got;
    }
    return std::string_view(block_.data(), filled);
  }

 private:
  int fd_;
  std::string_view name_;
  off_t offset_ = 0;
  std::vector<char> block_;
};

// The result under construction, never larger than allowed.
class BoundedContent {
 public:
  BoundedContent(std::string_view name, uint64_t max_bytes) : name_(name), max_(max_bytes) {}

  absl::Status Append(std::string_view bytes) {
    if (bytes.size() > max_ - content_.size()) {
      return base::MakeError(
          absl::StatusCode::kResourceExhausted, "FILE_TOO_LARGE",
          fmt::format("the content of '{}' exceeds the {} bytes allowed", name_, max_));
    }
    content_.append(bytes);
    return absl::OkStatus();
  }
  std::string Take() { return std::move(content_); }

 private:
  std::string_view name_;
  uint64_t max_;
  std::string content_;
};

class Inflater {
 public:
  explicit Inflater(std::string_view name) : name_(name), out_(kBlockBytes) {
    ready_ = inflateInit2(&stream_, kGzipWindow) == Z_OK;
  }
  ~Inflater() {
    if (ready_) {
      inflateEnd(&stream_);
    }
  }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  absl::Status Add(std::string_view piece, BoundedContent& content) {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(piece.data()));
    stream_.avail_in = static_cast<uInt>(piece.size());
    // Output may be waiting inside zlib when all input is consumed and the output block is full.
    bool full = false;
    while (stream_.avail_in > 0 || full) {
      if (ended_ && !StartMember()) {
        return Corrupt("bytes after the compressed data");
      }
      stream_.next_out = reinterpret_cast<Bytef*>(out_.data());
      stream_.avail_out = static_cast<uInt>(out_.size());
      const int result = inflate(&stream_, Z_NO_FLUSH);
      if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR) {
        return Corrupt(stream_.msg != nullptr ? stream_.msg : "unknown error");
      }
      ESPALIER_RETURN_IF_ERROR(
          content.Append(std::string_view(out_.data(), out_.size() - stream_.avail_out)));
      ended_ = result == Z_STREAM_END;
      full = !ended_ && stream_.avail_out == 0;
    }
    return absl::OkStatus();
  }

  absl::Status Finish() const { return ended_ ? absl::OkStatus() : Corrupt("the file is cut off"); }

 private:
  bool StartMember() {
    ended_ = false;
    return inflateReset(&stream_) == Z_OK && *stream_.next_in == 0x1f;
  }
  absl::Status Corrupt(std::string_view what) const {
    return base::InvalidArgument(
        "GZIP_CORRUPT",
        fmt::format("'{}' is not a valid gzip file: {}; fetch it again", name_, what));
  }

  std::string_view name_;
  std::vector<char> out_;
  z_stream stream_{};
  bool ready_ = false;
  bool ended_ = false;
};

}  // namespace

absl::StatusOr<std::string> ReadDescriptorMaybeGzip(int fd, std::string_view name,
                                                    uint64_t max_bytes) {
  BlockReader reader(fd, name);
  BoundedContent content(name, max_bytes);
  ESPALIER_ASSIGN_OR_RETURN(std::string_view piece, reader.Next());
  if (!piece.starts_with("\x1f\x8b")) {
    while (!piece.empty()) {
      ESPALIER_RETURN_IF_ERROR(content.Append(piece));
      ESPALIER_ASSIGN_OR_RETURN(piece, reader.Next());
    }
    return content.Take();
  }
  Inflater inflater(name);
  while (!piece.empty()) {
    ESPALIER_RETURN_IF_ERROR(inflater.Add(piece, content));
    ESPALIER_ASSIGN_OR_RETURN(piece, reader.Next());
  }
  ESPALIER_RETURN_IF_ERROR(inflater.Finish());
  return content.Take();
}

absl::StatusOr<std::string> ReadFileMaybeGzip(const std::string& path, uint64_t max_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    return PosixError(errno, "open", path);
  }
  auto content = ReadDescriptorMaybeGzip(fd, path, max_bytes);
  close(fd);
  return content;
}

}  // namespace espalier::io
