#include "common/io/guarded_file_system.h"

#include "common/base/status.h"
#include "common/io/atomic_file.h"

namespace espalier::io {

std::string GuardedFileSystem::Own(const std::string& path) const {
  if (!path.ends_with(AtomicFile::kTemporarySuffix)) return path;
  std::string own = path.substr(0, path.size() - AtomicFile::kTemporarySuffix.size());
  own += "." + id_;
  own += AtomicFile::kTemporarySuffix;
  return own;
}

absl::StatusOr<std::unique_ptr<WritableFile>> GuardedFileSystem::Create(const std::string& path) {
  ESPALIER_RETURN_IF_ERROR(may_change_());
  return files_.Create(Own(path));
}

absl::StatusOr<std::unique_ptr<ReadableFile>> GuardedFileSystem::Open(const std::string& path) {
  return files_.Open(Own(path));
}

absl::Status GuardedFileSystem::Rename(const std::string& from, const std::string& to) {
  ESPALIER_RETURN_IF_ERROR(may_change_());
  return files_.Rename(Own(from), to);
}

absl::Status GuardedFileSystem::Remove(const std::string& path) {
  ESPALIER_RETURN_IF_ERROR(may_change_());
  const absl::Status removed = files_.Remove(Own(path));
  // What an earlier process left has a name as it is listed.
  return absl::IsNotFound(removed) ? files_.Remove(path) : removed;
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
