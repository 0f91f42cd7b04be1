// ArrivingFile: checks of a file that arrives in chunks. PartFile: one that goes to the disk. No network
// in here.
//
// The bytes of a PartFile go to "<path>.part"; Finish() checks the size and SHA-256 and renames. A part
// file left by an earlier attempt is continued.
// Threading: not thread-safe.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/sha256.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::client {

class ArrivingFile {
 public:
  explicit ArrivingFile(uint64_t expected_bytes) : expected_bytes_(expected_bytes) {}

  // Bytes that have arrived; the offset to ask for next.
  uint64_t offset() const { return offset_; }
  // Whether a chunk is the next one and undamaged. Errors: DataLoss CHECKSUM_MISMATCH,
  // OFFSET_MISMATCH or SIZE_MISMATCH.
  absl::Status Check(const v1::Chunk& chunk) const;
  // Bytes that have been checked, or were there before.
  void Add(std::string_view bytes);
  // Errors: DataLoss SIZE_MISMATCH.
  absl::Status CheckWhole() const;
  // Once, at the end.
  std::string Sha256() { return digest_.HexDigest(); }

 private:
  uint64_t expected_bytes_;
  uint64_t offset_ = 0;
  io::Sha256 digest_;
};

class PartFile {
 public:
  // Errors: PermissionDenied FILE_UNWRITABLE when the file cannot be opened for writing.
  static absl::StatusOr<PartFile> Open(std::string path, uint64_t expected_bytes);

  // Bytes present; the offset to ask for next.
  uint64_t offset() const { return arriving_.offset(); }

  // Errors: those of ArrivingFile::Check() for chunks that do not fit; ResourceExhausted DISK_FULL when the disk refuses the bytes.
  absl::Status Append(const v1::Chunk& chunk);

  // Errors: DataLoss CHECKSUM_MISMATCH or SIZE_MISMATCH; the part file is then removed.
  absl::Status Finish(const std::string& sha256);

 private:
  PartFile(std::string path, uint64_t expected_bytes)
      : path_(std::move(path)), part_(path_ + ".part"), arriving_(expected_bytes) {}

  std::string path_;
  std::string part_;
  ArrivingFile arriving_;
  std::ofstream file_;
};

}  // namespace espalier::client
