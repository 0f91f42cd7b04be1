#include "server/object_store/spool.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "common/io/posix_error.h"

namespace espalier::server::object_store {

Spool::Spool(uint64_t memory_bytes, std::string directory)
    : memory_bytes_(memory_bytes), directory_(std::move(directory)) {}

Spool::~Spool() {
  if (fd_ >= 0) close(fd_);
}

absl::Status Spool::OpenFile() {
  fd_ = open(directory_.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd_ >= 0) return absl::OkStatus();
  // Some file systems cannot make files without names.
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) {
    return io::PosixError(errno, "create a temporary file in", directory_);
  }
  std::string name = directory_ + "/espalier-spool-XXXXXX";
  fd_ = mkostemp(name.data(), O_CLOEXEC);
  if (fd_ < 0) return io::PosixError(errno, "create a temporary file in", directory_);
  if (unlink(name.c_str()) != 0) return io::PosixError(errno, "remove", name);
  return absl::OkStatus();
}

absl::Status Spool::WriteFile(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return io::PosixError(errno, "write a temporary file in", directory_);
    }
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

absl::Status Spool::Append(std::string_view bytes) {
  if (fd_ < 0) {
    if (bytes.size() <= memory_bytes_ && memory_.size() <= memory_bytes_ - bytes.size()) {
      memory_.append(bytes);
      size_ += bytes.size();
      return absl::OkStatus();
    }
    ESPALIER_RETURN_IF_ERROR(OpenFile());
    ESPALIER_RETURN_IF_ERROR(WriteFile(memory_));
    std::string().swap(memory_);
  }
  ESPALIER_RETURN_IF_ERROR(WriteFile(bytes));
  size_ += bytes.size();
  return absl::OkStatus();
}

absl::Status Spool::ReadAt(uint64_t offset, void* out, size_t size) const {
  if (offset > size_ || size > size_ - offset) {
    return base::MakeError(
        absl::StatusCode::kOutOfRange, "FILE_TRUNCATED",
        fmt::format("expected {} bytes at byte {} of a temporary file, found that it has {}", size,
                    offset, size_));
  }
  if (fd_ < 0) {
    if (size > 0) std::memcpy(out, memory_.data() + offset, size);
    return absl::OkStatus();
  }
  char* next = static_cast<char*>(out);
  while (size > 0) {
    const ssize_t got = pread(fd_, next, size, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return io::PosixError(got < 0 ? errno : EIO, "read a temporary file in", directory_);
    }
    next += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

}  // namespace espalier::server::object_store
