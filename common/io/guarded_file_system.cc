#include "common/io/guarded_file_system.h"

#include "common/base/status.h"

namespace espalier::io {

absl::StatusOr<std::unique_ptr<WritableFile>> GuardedFileSystem::Create(const std::string& path) {
  ESPALIER_RETURN_IF_ERROR(may_change_());
  const absl::Status removed = files_.Remove(path);
  if (!removed.ok() && !absl::IsNotFound(removed)) return removed;
  return files_.Create(path);
}

absl::StatusOr<std::unique_ptr<ReadableFile>> GuardedFileSystem::Open(const std::string& path) {
  return files_.Open(path);
}

absl::Status GuardedFileSystem::Rename(const std::string& from, const std::string& to) {
  ESPALIER_RETURN_IF_ERROR(may_change_());
  return files_.Rename(from, to);
}

absl::Status GuardedFileSystem::Remove(const std::string& path) {
  ESPALIER_RETURN_IF_ERROR(may_change_());
  return files_.Remove(path);
}

absl::Status GuardedFileSystem::SyncDirectory(const std::string& directory) {
  return files_.SyncDirectory(directory);
}

absl::StatusOr<std::vector<std::string>> GuardedFileSystem::List(const std::string& directory) {
  return files_.List(directory);
}

absl::Status GuardedFileSystem::CreateDirectories(const std::string& directory) {
  ESPALIER_RETURN_IF_ERROR(may_change_());
  return files_.CreateDirectories(directory);
}

}  // namespace espalier::io
