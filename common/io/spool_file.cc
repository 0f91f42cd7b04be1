#include "common/io/spool_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "common/base/status.h"

namespace espalier::io {

absl::StatusOr<std::unique_ptr<SpoolFile>> SpoolFile::Create(FileSystem& files, std::string path) {
  ESPALIER_ASSIGN_OR_RETURN(std::unique_ptr<WritableFile> file, files.Create(path));
  return std::unique_ptr<SpoolFile>(new SpoolFile(files, std::move(path), std::move(file)));
}

SpoolFile::~SpoolFile() {
  file_.reset();
  // A failure leaves a file in the spool folder, which the next start empties.
  (void)files_->Remove(path_);
}

absl::Status SpoolFile::Append(std::string_view bytes) {
  ESPALIER_RETURN_IF_ERROR(file_->Append(bytes));
  size_ += bytes.size();
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<ReadableFile>> SpoolFile::OpenRange(uint64_t offset,
                                                                   uint64_t size) const {
  if (offset > size_ || size > size_ - offset) {
    return base::MakeError(absl::StatusCode::kOutOfRange, "FILE_TRUNCATED",
                           fmt::format("'{}' holds {} bytes, {} at offset {} were asked for", path_,
                                       size_, size, offset));
  }
  return files_->Open(path_);
}

absl::Status SpoolFile::ForEachBlock(
    uint64_t offset, uint64_t size,
    const std::function<absl::Status(std::string_view)>& sink) const {
  ESPALIER_ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> file, OpenRange(offset, size));
  std::string block(std::min<uint64_t>(kBlockBytes, size), '\0');
  while (size > 0) {
    const size_t part = std::min<uint64_t>(block.size(), size);
    ESPALIER_RETURN_IF_ERROR(file->ReadAt(offset, block.data(), part));
    ESPALIER_RETURN_IF_ERROR(sink(std::string_view(block.data(), part)));
    offset += part;
    size -= part;
  }
  return absl::OkStatus();
}

}  // namespace espalier::io
