// FileSystem: the few file operations that durable parts of Espalier need, behind an interface so
// that tests can make any of them fail or forget unsynced data.
//
// Paths:      passed to the operating system as they are; callers validate names that come from
//             outside. The last component is never followed when it is a symbolic link.
// Ownership:  files close when destroyed, without reporting errors: writers call Close().
// Threading:  a FileSystem and a ReadableFile may be used from several threads, a WritableFile from
//             one.
// Errors:     see posix_error.h. A failed Sync() has reason SYNC_FAILED (DataLoss): the kernel may
//             have dropped the data, so the write must be begun again from the start, never just
//             synced again.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace espalier::io {

class WritableFile {
 public:
  virtual ~WritableFile() = default;
  // Appends all of `bytes`; after an error an unknown part of them may be in the file.
  virtual absl::Status Append(std::string_view bytes) = 0;
  // Returns when everything appended is on stable storage.
  virtual absl::Status Sync() = 0;
  virtual absl::Status Close() = 0;
};

class ReadableFile {
 public:
  virtual ~ReadableFile() = default;
  // Size in bytes when the file was opened.
  virtual uint64_t size() const = 0;
  // Reads exactly `size` bytes at `offset`. Errors: OutOfRange (FILE_TRUNCATED) past the end.
  virtual absl::Status ReadAt(uint64_t offset, void* out, size_t size) const = 0;
};

class FileSystem {
 public:
  virtual ~FileSystem() = default;
  // An empty file at `path`, replacing what is there.
  virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  // A regular file; stays readable after Remove().
  virtual absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) = 0;
  // Atomically replaces `to`.
  virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  virtual absl::Status Remove(const std::string& path) = 0;
  // Makes creations, renames and removals in `directory` durable.
  virtual absl::Status SyncDirectory(const std::string& directory) = 0;
  // Names (not paths) in `directory`, sorted, without "." and "..".
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& directory) = 0;
  // With all missing parents; fine when it exists. Mode 0750 before umask.
  virtual absl::Status CreateDirectories(const std::string& directory) = 0;
};

// The operating system's files; lives for ever.
FileSystem& PosixFileSystem();

// The whole of a file of at most `max_bytes`. Errors: ResourceExhausted (FILE_TOO_LARGE) beyond
// that.
absl::StatusOr<std::string> ReadFile(FileSystem& files, const std::string& path,
                                     uint64_t max_bytes);

}  // namespace espalier::io
