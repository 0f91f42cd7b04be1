// S3ReadableFile: one version of an object, read in ranges, with a read-ahead so that many small
// reads in sequence are few requests.
//
// Versions:  once the object is removed or replaced, reads of bytes that were not fetched yet fail
//            with FILE_NOT_FOUND or FILE_CHANGED; bytes of two versions are never mixed.
// Memory:    at most four blocks of S3Options::read_ahead_bytes; a block grows from 256 KiB to that
//            size while reads go on where the last one ended.
// Ownership: shares the client.
// Threading: may be used from several threads; up to four of them that each read in sequence do not
//            disturb each other.
// Errors:    see s3_error.h; OutOfRange (FILE_TRUNCATED) past the end.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "common/io/file_system.h"
#include "server/object_store/s3_client.h"

namespace espalier::server::object_store {

class S3ReadableFile : public io::ReadableFile {
 public:
  S3ReadableFile(std::shared_ptr<S3Client> client, std::string key, ObjectInfo info);

  uint64_t size() const override { return info_.size; }
  absl::Status ReadAt(uint64_t offset, void* out, size_t size) const override;

 private:
  // Bytes from `begin` on. Never changed once it is made, so that it can be read without the lock.
  struct Block {
    uint64_t begin = 0;
    std::string bytes;
    uint64_t end() const { return begin + bytes.size(); }
  };
  struct Slot {
    std::shared_ptr<const Block> block;
    uint64_t last_use = 0;
  };

  // The block that has the byte at `offset`, or null.
  std::shared_ptr<const Block> Find(uint64_t offset) const;
  // How much to fetch from `offset` on, of which `size` bytes are asked for.
  uint64_t Window(uint64_t offset, uint64_t size) const;
  void Keep(std::shared_ptr<const Block> block) const;
  absl::StatusOr<std::shared_ptr<const Block>> Fetch(uint64_t offset, uint64_t size) const;

  const std::shared_ptr<S3Client> client_;
  const std::string key_;
  const ObjectInfo info_;
  mutable base::Mutex mutex_;
  mutable std::array<Slot, 4> slots_ ABSL_GUARDED_BY(mutex_);
  mutable uint64_t uses_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace espalier::server::object_store
