#include "common/io/file_system.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <system_error>
#include <utility>

#include "common/base/status.h"
#include "common/io/posix_error.h"

namespace espalier::io {
namespace {

absl::Status SyncDescriptor(int fd, const std::string& path) {
  if (fsync(fd) == 0) {
    return absl::OkStatus();
  }
  const absl::Status cause = PosixError(errno, "sync", path);
  return base::MakeError(absl::StatusCode::kDataLoss, "SYNC_FAILED",
                         base::MessageOf(cause) + "; written data may be lost, write it anew");
}

class PosixWritableFile : public WritableFile {
 public:
  PosixWritableFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixWritableFile() override {
    if (fd_ >= 0) {
      close(fd_);
    }
  }
  PosixWritableFile(const PosixWritableFile&) = delete;
  PosixWritableFile& operator=(const PosixWritableFile&) = delete;

  absl::Status Append(std::string_view bytes) override {
    while (!bytes.empty()) {
      const ssize_t written = write(fd_, bytes.data(), bytes.size());
      if (written < 0) {
        if (errno == EINTR) {
          continue;
        }
        return PosixError(errno, "write", path_);
      }
      bytes.remove_prefix(static_cast<size_t>(written));
    }
    return absl::OkStatus();
  }

  absl::Status Sync() override { return SyncDescriptor(fd_, path_); }

  absl::Status Close() override {
    const int fd = std::exchange(fd_, -1);
    if (fd >= 0 && close(fd) != 0) {
      return PosixError(errno, "close", path_);
    }
    return absl::OkStatus();
  }

 private:
  int fd_;
  std::string path_;
};

class PosixReadableFile : public ReadableFile {
 public:
  PosixReadableFile(int fd, uint64_t size, std::string path)
      : fd_(fd), size_(size), path_(std::move(path)) {}
  ~PosixReadableFile() override { close(fd_); }
  PosixReadableFile(const PosixReadableFile&) = delete;
  PosixReadableFile& operator=(const PosixReadableFile&) = delete;

  uint64_t size() const override { return size_; }

  absl::Status ReadAt(uint64_t offset, void* out, size_t size) const override {
    char* p = static_cast<char*>(out);
    while (size > 0) {
      const ssize_t got = pread(fd_, p, size, static_cast<off_t>(offset));
      if (got < 0) {
        if (errno == EINTR) {
          continue;
        }
        return PosixError(errno, "read", path_);
      }
      if (got == 0) {
        return base::MakeError(
            absl::StatusCode::kOutOfRange, "FILE_TRUNCATED",
            fmt::format("'{}' ends at byte {}, {} more expected", path_, offset, size));
      }
      p += got;
      offset += static_cast<uint64_t>(got);
      size -= static_cast<size_t>(got);
    }
    return absl::OkStatus();
  }

 private:
  int fd_;
  uint64_t size_;
  std::string path_;
};

class PosixFiles : public FileSystem {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0) {
      return PosixError(errno, "create", path);
    }
    return std::make_unique<PosixWritableFile>(fd, path);
  }

  absl::StatusOr<std::unique_ptr<ReadableFile>> Open(const std::string& path) override {
    // O_NONBLOCK: opening a named pipe must not hang; it has no effect on regular files.
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0) {
      return PosixError(errno, "open", path);
    }
    struct stat info {};
    absl::Status status;
    if (fstat(fd, &info) != 0) {
      status = PosixError(errno, "examine", path);
    } else if (!S_ISREG(info.st_mode)) {
      status = base::InvalidArgument("NOT_A_FILE", fmt::format("'{}' is not a regular file", path));
    }
    if (!status.ok()) {
      close(fd);
      return status;
    }
    return std::make_unique<PosixReadableFile>(fd, static_cast<uint64_t>(info.st_size), path);
  }

  absl::Status Rename(const std::string& from, const std::string& to) override {
    if (rename(from.c_str(), to.c_str()) != 0) {
      return PosixError(errno, fmt::format("rename '{}' to", from), to);
    }
    return absl::OkStatus();
  }

  absl::Status Remove(const std::string& path) override {
    if (unlink(path.c_str()) != 0) {
      return PosixError(errno, "remove", path);
    }
    return absl::OkStatus();
  }

  absl::Status SyncDirectory(const std::string& directory) override {
    const int fd = open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
      return PosixError(errno, "open directory", directory);
    }
    absl::Status status = SyncDescriptor(fd, directory);
    close(fd);
    return status;
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override {
    std::error_code error;
    std::filesystem::directory_iterator entry(directory, error);
    std::vector<std::string> names;
    while (!error && entry != std::filesystem::directory_iterator()) {
      names.push_back(entry->path().filename().string());
      entry.increment(error);
    }
    if (error) {
      return PosixError(error.value(), "list", directory);
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  absl::Status CreateDirectories(const std::string& directory) override {
    for (size_t end = 0; end != std::string::npos;) {
      end = directory.find('/', end + 1);
      const std::string part = directory.substr(0, end);
      if (mkdir(part.c_str(), 0750) != 0 && errno != EEXIST) {
        return PosixError(errno, "create directory", part);
      }
    }
    struct stat info {};
    if (stat(directory.c_str(), &info) != 0) {
      return PosixError(errno, "examine", directory);
    }
    return S_ISDIR(info.st_mode) ? absl::OkStatus()
                                 : PosixError(EEXIST, "create directory", directory);
  }
};

}  // namespace

FileSystem& PosixFileSystem() {
  static PosixFiles files;
  return files;
}

absl::StatusOr<std::string> ReadFile(FileSystem& files, const std::string& path,
                                     uint64_t max_bytes) {
  ESPALIER_ASSIGN_OR_RETURN(const std::unique_ptr<ReadableFile> file, files.Open(path));
  if (file->size() > max_bytes) {
    return base::MakeError(
        absl::StatusCode::kResourceExhausted, "FILE_TOO_LARGE",
        fmt::format("'{}' has {} bytes, at most {} are allowed", path, file->size(), max_bytes));
  }
  std::string bytes(file->size(), '\0');
  ESPALIER_RETURN_IF_ERROR(file->ReadAt(0, bytes.data(), bytes.size()));
  return bytes;
}

}  // namespace espalier::io
