// Blobs in chunks: cutting a byte string into v1::Chunk, and putting it together again with checks.
//
// A blob is known by its SHA-256 and size before its first byte arrives, so neither side trusts the
// other's stream: each chunk carries its offset and CRC-32C, the whole is compared with the digest.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/io/sha256.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

// One chunk; copies `data`.
v1::Chunk MakeChunk(uint64_t offset, std::string_view data);

// The chunk of at most `chunk_bytes` > 0 that begins at `offset` < blob.size().
v1::Chunk ChunkAt(std::string_view blob, uint64_t offset, size_t chunk_bytes);

// Checks a blob that is in memory, for instance an inline one. Errors: as BlobAssembler::Finish().
absl::Status CheckBlob(std::string_view bytes, uint64_t size, std::string_view sha256);

// In the initial metadata of an upload: the offset from which on its body is wanted.
inline constexpr char kUploadOffset[] = "espalier-offset";

// Receives the chunks of one blob in order and hands their data to a sink.
//
// Threading: not thread-safe.
// Errors:    CHUNK_CORRUPT (DataLoss) wrong checksum; CHUNK_OUT_OF_ORDER (InvalidArgument) wrong
//            offset or no data; BLOB_SIZE_MISMATCH (InvalidArgument) more or less data than
//            declared; BLOB_DIGEST_MISMATCH (DataLoss); or the sink's. A refused chunk changes
//            nothing, so that a transfer can go on from received(); after an error of the sink this
//            object is of no use.
class BlobAssembler {
 public:
  using Sink = std::function<absl::Status(std::string_view)>;

  BlobAssembler(uint64_t size, std::string sha256, Sink sink)
      : size_(size), sha256_(std::move(sha256)), sink_(std::move(sink)) {}

  absl::Status Add(const v1::Chunk& chunk);
  // Bytes received so far: the offset of the next chunk.
  uint64_t received() const { return received_; }
  bool complete() const { return received_ == size_; }
  // Compares size and digest; call once, after the last chunk. What the sink got is only valid if
  // OK.
  absl::Status Finish();

 private:
  uint64_t size_;
  std::string sha256_;
  Sink sink_;
  uint64_t received_ = 0;
  io::Sha256 digest_;
};

}  // namespace espalier::wire
