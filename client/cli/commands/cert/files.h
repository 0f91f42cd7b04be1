// Files and folders with keys: only their owner reads them, and they appear whole or not at all.
//
// Threading: not thread-safe; one command at a time uses a process.
// Errors:    those of io/file_system.h; InvalidArgument PASSPHRASE_FILE_UNREADABLE.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::cli::cert {

// While it lives, new files have mode 0600 and new folders 0700.
class PrivateFiles {
 public:
  PrivateFiles();
  ~PrivateFiles();
  PrivateFiles(const PrivateFiles&) = delete;
  PrivateFiles& operator=(const PrivateFiles&) = delete;

 private:
  mode_t former_;
};

// Names and contents.
using Files = std::vector<std::pair<std::string, std::string>>;

// A new folder beside others, under a name of its own that begins with a dot; it vanishes unless it is kept.
class NewFolder {
 public:
  // Errors: FailedPrecondition FOLDER_UNUSABLE.
  static absl::StatusOr<NewFolder> Beside(const std::string& path);
  NewFolder(NewFolder&& other) noexcept : path_(std::exchange(other.path_, "")) {}
  NewFolder& operator=(NewFolder&&) = delete;
  ~NewFolder();

  const std::string& path() const { return path_; }
  // Under its name, where nothing is but perhaps an empty folder.
  absl::Status KeepAs(const std::string& path);
  // What is in it, one after the other and `last` at the end, into a folder that is there.
  absl::Status KeepIn(const std::string& folder, const std::string& last);

 private:
  explicit NewFolder(std::string path) : path_(std::move(path)) {}

  std::string path_;
};

// Makes the folder if it is not there. All files are on the disk before the first gets its name; they get them in
// their order.
absl::Status WriteTogether(const std::string& folder, const Files& files);

// At most 4 MiB, 64 MiB of a register.
absl::StatusOr<std::string> ReadText(const std::string& path, size_t most = 4 * 1024 * 1024);

// The first line of a file or pipe.
absl::StatusOr<std::string> ReadPassphrase(const std::string& path);

}  // namespace espalier::cli::cert
