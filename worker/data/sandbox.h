// DataRoot: the only door between names in a job and files on this machine.
//
// A job names a data set, never a path. The name is a sub-folder of the worker's data root, and
// every file is opened beneath that root: with openat2(RESOLVE_BENEATH), or, where the kernel lacks
// it, component by component without following symbolic links.
//
// Ownership:   a DataRoot holds the root folder open; files opened through it are independent.
// Threading:   const members may be called from several threads at once.
// Errors:      PATH_OUTSIDE_DATA_ROOT for names with '/', "..", NUL or symbolic links that leave
//              the root; DATASET_NOT_FOUND (with the names that are there); DATASET_INVALID when
//              unreadable.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/load_options.h"

namespace espalier::worker::data {

// A file descriptor that is closed when its owner goes.
class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int fd) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd();

  int get() const { return fd_; }
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

struct FileEntry {
  std::string name;
  int64_t bytes = 0;
  int64_t modified_ns = 0;  // since the epoch
};

// What is in one folder: regular files and sub-folders, by name ascending; hidden ones are left
// out.
struct FolderListing {
  std::vector<FileEntry> files;
  std::vector<std::string> folders;
};

// Something in the data root itself that is meant as data, and is no data set where it is.
struct Stray {
  std::string name;     // in UTF-8, at most 100 bytes
  std::string problem;  // a whole sentence: what it should be, and what to do
};

// ^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$ without "..".
absl::Status CheckDatasetName(std::string_view name);

// One path component: not empty, no '/', no NUL, not "." or "..".
absl::Status CheckFileName(std::string_view name);

enum class Resolver {
  kKernel,      // openat2, falls back to kComponents where it is missing
  kComponents,  // O_NOFOLLOW at every step: refuses every symbolic link
};

// Opens `relative` (components joined by '/') for reading beneath `root_fd`. Never blocks on a
// FIFO.
absl::StatusOr<UniqueFd> OpenBeneath(int root_fd, const std::string& relative, bool directory,
                                     Resolver resolver = Resolver::kKernel);

class DataRoot {
 public:
  static absl::StatusOr<DataRoot> Open(const std::string& path);

  // Names of the sub-folders that are valid data set names, ascending.
  std::vector<std::string> Datasets() const;

  // Files of data beside the folders, and folders whose names no job can have; by name ascending,
  // at most kMostStrays. The last one's problem says how many more there are.
  std::vector<Stray> Strays() const;

  // The regular files of a data set, by name ascending; hidden files are left out.
  absl::StatusOr<std::vector<FileEntry>> Files(const std::string& dataset) const;

  // What is in `folder` of a data set: "" for its own folder, or names joined by '/'. Symbolic
  // links are followed as far as they stay beneath the root. Errors: also DATASET_TOO_LARGE for
  // more than kMostFiles entries or more memory than the options allow.
  absl::StatusOr<FolderListing> List(const std::string& dataset, const std::string& folder,
                                     const LoadOptions& options) const;

  // A regular file in a data set's own folder.
  absl::StatusOr<UniqueFd> OpenFile(const std::string& dataset, const std::string& file) const;

  // A regular file of a data set; `path` is names joined by '/', as List() gives them.
  absl::StatusOr<UniqueFd> OpenPath(const std::string& dataset, const std::string& path) const;

  static constexpr size_t kMostStrays = 8;
  // Most files of a data set that consists of folders.
  static constexpr int64_t kMostFiles = 10'000'000;

 private:
  explicit DataRoot(UniqueFd fd) : fd_(std::move(fd)) {}

  absl::StatusOr<UniqueFd> OpenFolder(const std::string& dataset, const std::string& folder) const;

  UniqueFd fd_;
};

}  // namespace espalier::worker::data
