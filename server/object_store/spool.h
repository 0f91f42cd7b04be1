// Spool: what is written to an object before it is uploaded: in memory while it is little, then in
// a temporary file that has no name, so that it goes with the process.
//
// Threading: not thread-safe; reads do not change it.
// Errors:    see common/io/posix_error.h.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "common/io/file_system.h"

namespace espalier::server::object_store {

class Spool : public io::ReadableFile {
 public:
  // At most `memory_bytes` in memory, else in a file in `directory`.
  Spool(uint64_t memory_bytes, std::string directory);
  ~Spool() override;
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  absl::Status Append(std::string_view bytes);

  uint64_t size() const override { return size_; }
  absl::Status ReadAt(uint64_t offset, void* out, size_t size) const override;

 private:
  absl::Status OpenFile();
  absl::Status WriteFile(std::string_view bytes);

  const uint64_t memory_bytes_;
  const std::string directory_;
  std::string memory_;
  int fd_ = -1;  // -1: all is in memory
  uint64_t size_ = 0;
};

}  // namespace espalier::server::object_store
