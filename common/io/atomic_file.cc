#include "common/io/atomic_file.h"

#include "common/base/status.h"

namespace espalier::io {

absl::StatusOr<AtomicFile> AtomicFile::Create(FileSystem& files, std::string path) {
  ESPALIER_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file,
                            files.Create(path + std::string(kTemporarySuffix)));
  return AtomicFile(files, std::move(path), std::move(file));
}

AtomicFile::~AtomicFile() {
  if (pending_ != nullptr) {
    file_.reset();
    // A failure leaves a temporary file, which the next start sweeps.
    (void)pending_->Remove(temporary_path());
  }
}

absl::Status AtomicFile::Finish() {
  if (file_ == nullptr) {
    return absl::OkStatus();
  }
  ESPALIER_RETURN_IF_ERROR(file_->Sync());
  ESPALIER_RETURN_IF_ERROR(file_->Close());
  file_.reset();
  return absl::OkStatus();
}

absl::Status AtomicFile::Commit() {
  ESPALIER_RETURN_IF_ERROR(Finish());
  ESPALIER_RETURN_IF_ERROR(files_->Rename(temporary_path(), path_));
  pending_.reset();
  return files_->SyncDirectory(DirectoryOf(path_));
}

absl::Status WriteAtomically(FileSystem& files, const std::string& path, std::string_view bytes) {
  ESPALIER_ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(files, path));
  ESPALIER_RETURN_IF_ERROR(file.Append(bytes));
  return file.Commit();
}

std::string DirectoryOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) {
    return ".";
  }
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace espalier::io
