// GuardedFileSystem: files that several processes share, of which one may change them at a time.
//
// Asks `may_change` before each creation, renaming and removal, and fails with its error. A process
// that is stopped between that question and the call to the operating system is not held back. It must not
// do harm to what another one writes then: unfinished files (AtomicFile::kTemporarySuffix) have an id of
// their process in their names.
//
// Ownership: `files` is borrowed for ever.
// Threading: as FileSystem; `may_change` is called from any thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/io/file_system.h"

namespace espalier::io {

class GuardedFileSystem : public FileSystem {
 public:
  // `id`: of this process, so that no other one has the same.
  GuardedFileSystem(FileSystem& files, std::function<absl::Status()> may_change, std::string id)
      : files_(files), may_change_(std::move(may_change)), id_(std::move(id)) {}

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) override;
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status Remove(const std::string& path) override;
  absl::Status SyncDirectory(const std::string& directory) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override;
  absl::Status CreateDirectories(const std::string& directory) override;

 private:
  // "file.ID.tmp" of "file.tmp".
  std::string Own(const std::string& path) const;

  FileSystem& files_;
  const std::function<absl::Status()> may_change_;
  const std::string id_;
};

}  // namespace espalier::io
