// PartFile: a file being downloaded in chunks. No network in here.
//
// The bytes go to "<path>.part"; Finish() checks the size and SHA-256 and renames. A part file left
// by an earlier attempt is continued.
// Threading: not thread-safe.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/sha256.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::client {

class PartFile {
 public:
  // Errors: PermissionDenied FILE_UNWRITABLE when the file cannot be opened for writing.
  static absl::StatusOr<PartFile> Open(std::string path, uint64_t expected_bytes);

  // Bytes present; the offset to ask for next.
  uint64_t offset() const { return offset_; }

  // Errors: DataLoss CHECKSUM_MISMATCH, OFFSET_MISMATCH or SIZE_MISMATCH for chunks that do not
  //         fit; ResourceExhausted DISK_FULL when the disk refuses the bytes.
  absl::Status Append(const v1::Chunk& chunk);

  // Errors: DataLoss CHECKSUM_MISMATCH or SIZE_MISMATCH; the part file is then removed.
  absl::Status Finish(const std::string& sha256);

 private:
  PartFile(std::string path, uint64_t expected_bytes)
      : path_(std::move(path)), part_(path_ + ".part"), expected_bytes_(expected_bytes) {}

  std::string path_;
  std::string part_;
  uint64_t expected_bytes_;
  uint64_t offset_ = 0;
  io::Sha256 digest_;
  std::ofstream file_;
};

}  // namespace espalier::client
