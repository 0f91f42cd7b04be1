#include "common/wire/blob.h"

#include <fmt/format.h>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/io/crc32c.h"

namespace espalier::wire {
namespace {

absl::Status CheckSize(uint64_t expected, uint64_t found) {
  if (expected != found) {
    return base::InvalidArgument(
        "BLOB_SIZE_MISMATCH",
        fmt::format("expected a blob of {} bytes, found {}; send it anew", expected, found));
  }
  return absl::OkStatus();
}

absl::Status CheckDigest(std::string_view expected, std::string_view found) {
  if (expected != found) {
    return base::MakeError(
        absl::StatusCode::kDataLoss, "BLOB_DIGEST_MISMATCH",
        fmt::format("expected a blob with SHA-256 {}, found {}; send it anew", expected, found));
  }
  return absl::OkStatus();
}

}  // namespace

v1::Chunk MakeChunk(uint64_t offset, std::string_view data) {
  v1::Chunk chunk;
  chunk.set_offset(offset);
  chunk.set_data(data.data(), data.size());
  chunk.set_crc32c(io::Crc32c(data));
  return chunk;
}

v1::Chunk ChunkAt(std::string_view blob, uint64_t offset, size_t chunk_bytes) {
  ESPALIER_CHECK(chunk_bytes > 0 && offset < blob.size(), "a chunk must have data");
  return MakeChunk(offset, blob.substr(offset, chunk_bytes));
}

absl::Status CheckBlob(std::string_view bytes, uint64_t size, std::string_view sha256) {
  ESPALIER_RETURN_IF_ERROR(CheckSize(size, bytes.size()));
  return CheckDigest(sha256, io::Sha256Hex(bytes));
}

absl::Status BlobAssembler::Add(const v1::Chunk& chunk) {
  const std::string& data = chunk.data();
  if (chunk.offset() != received_) {
    return base::InvalidArgument(
        "CHUNK_OUT_OF_ORDER",
        fmt::format("expected a chunk at offset {}, found one at {}", received_, chunk.offset()));
  }
  if (data.empty()) {
    return base::InvalidArgument("CHUNK_OUT_OF_ORDER",
                                 fmt::format("the chunk at offset {} has no data", received_));
  }
  if (data.size() > size_ - received_) {
    return CheckSize(size_, received_ + data.size());
  }
  if (const uint32_t crc = io::Crc32c(data); crc != chunk.crc32c()) {
    return base::MakeError(
        absl::StatusCode::kDataLoss, "CHUNK_CORRUPT",
        fmt::format("the chunk at offset {} has CRC-32C {:08x}, expected {:08x}; send it again",
                    received_, crc, chunk.crc32c()));
  }
  ESPALIER_RETURN_IF_ERROR(sink_(data));
  digest_.Update(data);
  received_ += data.size();
  return absl::OkStatus();
}

absl::Status BlobAssembler::Finish() {
  ESPALIER_RETURN_IF_ERROR(CheckSize(size_, received_));
  return CheckDigest(sha256_, digest_.HexDigest());
}

}  // namespace espalier::wire
