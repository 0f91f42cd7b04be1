// MappedFile: a whole file as read-only memory, which the operating system reads when it is
// touched. Files larger than memory can be mapped.
//
// Danger:      when the file shrinks while it is mapped, touching what is gone kills the process
//              (SIGBUS): for files that nobody changes while they are read.
// Threading:   immutable after Open().
// Errors:      see posix_error.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace espalier::io {

class MappedFile {
 public:
  // A regular file; symbolic links are followed, as model caches use them.
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::string_view bytes() const { return {data_, size_}; }
  // Tells the operating system that [offset, offset + size) is not needed for now.
  void Forget(uint64_t offset, uint64_t size) const;

 private:
  MappedFile(const char* data, size_t size) : data_(data), size_(size) {}

  const char* data_;
  size_t size_;
};

}  // namespace espalier::io
