// FailingFileSystem: the operating system's files until `operations_left` changing operations have been
// made; the next one fails, as do all that follow but removals, until the number is raised.
//
// Threading: as io::FileSystem, of which one thread changes files at a time.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/io/file_system.h"

namespace espalier::test {

class FailingFileSystem : public io::FileSystem {
 public:
  std::atomic<int> operations_left = 1 << 30;
  std::atomic<bool> failed = false;
  // Whether half of the bytes are in the file when they cannot be appended.
  std::atomic<bool> leaves_half = false;

  absl::StatusOr<std::unique_ptr<io::WritableFile>> Create(const std::string& path) override {
    ESPALIER_RETURN_IF_ERROR(Spend());
    ESPALIER_ASSIGN_OR_RETURN(auto file, real_.Create(path));
    return std::make_unique<File>(*this, std::move(file));
  }
  absl::StatusOr<std::unique_ptr<io::ReadableFile>> Open(const std::string& path) override {
    ESPALIER_RETURN_IF_ERROR(Spend());
    return real_.Open(path);
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    ESPALIER_RETURN_IF_ERROR(Spend());
    return real_.Rename(from, to);
  }
  absl::Status Remove(const std::string& path) override { return real_.Remove(path); }
  absl::Status SyncDirectory(const std::string& directory) override {
    ESPALIER_RETURN_IF_ERROR(Spend());
    return real_.SyncDirectory(directory);
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& directory) override {
    return real_.List(directory);
  }
  absl::Status CreateDirectories(const std::string& directory) override {
    return real_.CreateDirectories(directory);
  }

 private:
  class File : public io::WritableFile {
   public:
    File(FailingFileSystem& files, std::unique_ptr<io::WritableFile> real)
        : files_(files), real_(std::move(real)) {}
    absl::Status Append(std::string_view bytes) override {
      const absl::Status status = files_.Spend();
      if (!status.ok() && files_.leaves_half) {
        ESPALIER_RETURN_IF_ERROR(real_->Append(bytes.substr(0, bytes.size() / 2)));
      }
      return status.ok() ? real_->Append(bytes) : status;
    }
    absl::Status Sync() override {
      ESPALIER_RETURN_IF_ERROR(files_.Spend());
      return real_->Sync();
    }
    absl::Status Close() override {
      ESPALIER_RETURN_IF_ERROR(files_.Spend());
      return real_->Close();
    }

   private:
    FailingFileSystem& files_;
    std::unique_ptr<io::WritableFile> real_;
  };

  absl::Status Spend() {
    if (operations_left > 0) {
      --operations_left;
      return absl::OkStatus();
    }
    failed = true;
    return base::MakeError(absl::StatusCode::kResourceExhausted, "STORAGE_FULL", "injected");
  }

  io::FileSystem& real_ = io::PosixFileSystem();
};

}  // namespace espalier::test
