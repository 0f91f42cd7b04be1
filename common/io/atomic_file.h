// AtomicFile: a file that appears under its name complete and durable, or not at all.
//
// Written as "<path>.tmp" in the same directory. Commit() renames it; an object destroyed before
// removes the temporary file. After a crash such files may be left: owners of a directory sweep
// them at start.
// Threading: not thread-safe; one writer per path.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace espalier::io {

class AtomicFile {
 public:
  static constexpr std::string_view kTemporarySuffix = ".tmp";

  // `files` is borrowed for the life of the object.
  static absl::StatusOr<AtomicFile> Create(FileSystem& files, std::string path);
  AtomicFile(AtomicFile&&) noexcept = default;
  AtomicFile& operator=(AtomicFile&&) = delete;
  ~AtomicFile();

  absl::Status Append(std::string_view bytes) { return file_->Append(bytes); }
  // Sync and close: afterwards the bytes can be read back at temporary_path().
  absl::Status Finish();
  std::string temporary_path() const { return path_ + std::string(kTemporarySuffix); }
  // Finish() if need be, rename, sync the directory.
  absl::Status Commit();

 private:
  AtomicFile(FileSystem& files, std::string path, std::unique_ptr<WritableFile> file)
      : files_(&files), path_(std::move(path)), file_(std::move(file)), pending_(&files) {}

  struct Forget {
    void operator()(FileSystem*) const {}
  };

  FileSystem* files_;
  std::string path_;
  std::unique_ptr<WritableFile> file_;
  // Null once committed or moved from: whether the temporary file is still ours to remove.
  std::unique_ptr<FileSystem, Forget> pending_;
};

// Writes `bytes` as the whole content of `path`.
absl::Status WriteAtomically(FileSystem& files, const std::string& path, std::string_view bytes);

// The directory part of `path`; "." when there is none.
std::string DirectoryOf(const std::string& path);

}  // namespace espalier::io
