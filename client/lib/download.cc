#include "client/lib/download.h"

#include <cstdio>
#include <filesystem>
#include <system_error>
#include <vector>

#include "common/base/status.h"
#include "common/io/crc32c.h"
#include "fmt/format.h"

namespace espalier::client {
namespace {

absl::Status DataLoss(std::string_view reason, std::string_view message) {
  return base::MakeError(absl::StatusCode::kDataLoss, reason, message);
}

// What an earlier attempt left; nothing when there is nothing usable.
ArrivingFile ReadExisting(const std::string& part, uint64_t expected_bytes) {
  constexpr size_t kBlockBytes = 256 * 1024;
  ArrivingFile existing(expected_bytes);
  std::error_code error;
  const uint64_t size = std::filesystem::file_size(part, error);
  if (error || size > expected_bytes) return existing;
  std::ifstream file(part, std::ios::binary);
  std::vector<char> block(kBlockBytes);
  while (file && existing.offset() < size) {
    file.read(block.data(), static_cast<std::streamsize>(block.size()));
    existing.Add({block.data(), static_cast<size_t>(file.gcount())});
  }
  return existing.offset() == size ? std::move(existing) : ArrivingFile(expected_bytes);
}

}  // namespace

absl::StatusOr<PartFile> PartFile::Open(std::string path, uint64_t expected_bytes) {
  PartFile part(std::move(path), expected_bytes);
  part.arriving_ = ReadExisting(part.part_, expected_bytes);
  const auto mode = part.offset() > 0 ? std::ios::app : std::ios::trunc;
  part.file_.open(part.part_, std::ios::binary | mode);
  if (!part.file_) {
    return base::MakeError(
        absl::StatusCode::kPermissionDenied, "FILE_UNWRITABLE",
        fmt::format("cannot write '{}'; choose a writable folder with -O FILE", part.part_));
  }
  return part;
}

absl::Status ArrivingFile::Check(const v1::Chunk& chunk) const {
  if (chunk.offset() != offset_) {
    return DataLoss("OFFSET_MISMATCH",
                    fmt::format("expected bytes from offset {}, found offset {}; try again",
                                offset_, chunk.offset()));
  }
  if (chunk.data().size() > expected_bytes_ - offset_) {
    return DataLoss(
        "SIZE_MISMATCH",
        fmt::format("expected {} bytes in all, found more; the checkpoint may have been "
                    "replaced meanwhile, try again",
                    expected_bytes_));
  }
  if (io::Crc32c(chunk.data()) != chunk.crc32c()) {
    return DataLoss(
        "CHECKSUM_MISMATCH",
        fmt::format("the chunk at offset {} was damaged on its way; try again", offset_));
  }
  return absl::OkStatus();
}

void ArrivingFile::Add(std::string_view bytes) {
  digest_.Update(bytes.data(), bytes.size());
  offset_ += bytes.size();
}

absl::Status ArrivingFile::CheckWhole() const {
  if (offset_ == expected_bytes_) return absl::OkStatus();
  return DataLoss("SIZE_MISMATCH",
                  fmt::format("expected {} bytes, found {}; try again", expected_bytes_, offset_));
}

absl::Status PartFile::Append(const v1::Chunk& chunk) {
  ESPALIER_RETURN_IF_ERROR(arriving_.Check(chunk));
  file_.write(chunk.data().data(), static_cast<std::streamsize>(chunk.data().size()));
  if (!file_.flush()) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, "DISK_FULL",
                           fmt::format("cannot write to '{}'; is the disk full?", part_));
  }
  arriving_.Add(chunk.data());
  return absl::OkStatus();
}

absl::Status PartFile::Finish(const std::string& sha256) {
  file_.close();
  ESPALIER_RETURN_IF_ERROR(arriving_.CheckWhole());
  const std::string found = arriving_.Sha256();
  if (found != sha256) {
    std::remove(part_.c_str());
    return DataLoss("CHECKSUM_MISMATCH",
                    fmt::format("expected SHA-256 {}, found {}; the partial file was removed, try "
                                "again",
                                sha256, found));
  }
  std::error_code error;
  std::filesystem::rename(part_, path_, error);
  if (error) {
    return base::MakeError(
        absl::StatusCode::kPermissionDenied, "FILE_UNWRITABLE",
        fmt::format("cannot rename '{}' to '{}': {}", part_, path_, error.message()));
  }
  return absl::OkStatus();
}

}  // namespace espalier::client
