// SpoolFile: a temporary file that an upload is appended to piece by piece and read back in blocks,
// so that memory does not grow with uploads. The file is removed when the object is destroyed.
//
// Threading: not thread-safe. Reads may follow appends in any order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace espalier::io {

class SpoolFile {
 public:
  static constexpr size_t kBlockBytes = 256 * 1024;

  // Replaces what is at `path`. `files` is borrowed for the life of the object.
  static absl::StatusOr<std::unique_ptr<SpoolFile>> Create(FileSystem& files, std::string path);
  ~SpoolFile();
  SpoolFile(const SpoolFile&) = delete;
  SpoolFile& operator=(const SpoolFile&) = delete;

  absl::Status Append(std::string_view bytes);
  // Bytes appended so far.
  uint64_t size() const { return size_; }

  // Calls `sink` with consecutive blocks of [offset, offset + size); stops at its first error.
  absl::Status ForEachBlock(uint64_t offset, uint64_t size,
                            const std::function<absl::Status(std::string_view)>& sink) const;

 private:
  SpoolFile(FileSystem& files, std::string path, std::unique_ptr<WritableFile> file)
      : files_(&files), path_(std::move(path)), file_(std::move(file)) {}
  // Errors: OutOfRange (FILE_TRUNCATED) when the range ends beyond size().
  absl::StatusOr<std::unique_ptr<ReadableFile>> OpenRange(uint64_t offset, uint64_t size) const;

  FileSystem* files_;
  std::string path_;
  std::unique_ptr<WritableFile> file_;
  uint64_t size_ = 0;
};

}  // namespace espalier::io
