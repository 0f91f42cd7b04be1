#include "worker/data/sandbox.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <memory>

#include "absl/strings/ascii.h"
#include "common/base/names.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {
namespace {

constexpr size_t kMostNamesListed = 20;
constexpr int kOpenFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK;

absl::Status OutsideRoot(std::string_view path) {
  return base::InvalidArgument(
      kPathOutsideDataRoot,
      fmt::format(
          "{} leads outside the worker's data root; expected a plain name of something inside "
          "it. Symbolic links out of the root are refused: copy or bind-mount the files",
          Quote(path)));
}

absl::Status OpenError(const std::string& relative, int error) {
  switch (error) {
    case EXDEV:  // openat2: the path would leave the root
    case ELOOP:  // a symbolic link met under O_NOFOLLOW
      return OutsideRoot(relative);
    case ENOENT:
    case ENOTDIR:
      return base::NotFound(
          kDatasetNotFound,
          fmt::format("{} does not exist under this worker's data root; check the name or add it",
                      Quote(relative)));
    default:
      return base::FailedPrecondition(
          kDatasetInvalid,
          fmt::format("{} cannot be opened: {}; check that the worker's user may read it",
                      Quote(relative), std::strerror(error)));
  }
}

int KernelOpenBeneath(int root_fd, const std::string& relative, int flags) {
  open_how how{};
  how.flags = static_cast<uint64_t>(flags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  constexpr int kTries = 16;  // EAGAIN: a rename raced with the walk
  long fd = -1;
  for (int i = 0; i < kTries; ++i) {
    fd = syscall(SYS_openat2, root_fd, relative.c_str(), &how, sizeof(how));
    if (fd >= 0 || errno != EAGAIN) break;
  }
  return static_cast<int>(fd);
}

int ComponentsOpenBeneath(int root_fd, const std::string& relative, int flags) {
  UniqueFd holder;
  int current = root_fd;
  size_t begin = 0;
  for (;;) {
    const size_t end = relative.find('/', begin);
    const std::string component = relative.substr(begin, end - begin);
    const bool last = end == std::string::npos;
    const int step_flags = last ? flags : kOpenFlags | O_DIRECTORY;
    const int fd = openat(current, component.c_str(), step_flags | O_NOFOLLOW);
    if (fd < 0) {
      // With O_DIRECTORY a link is reported as ENOTDIR; tell the two apart for the message.
      struct stat info {};
      if (errno == ENOTDIR &&
          fstatat(current, component.c_str(), &info, AT_SYMLINK_NOFOLLOW) == 0) {
        errno = S_ISLNK(info.st_mode) ? ELOOP : ENOTDIR;
      }
      return -1;
    }
    if (last) return fd;
    holder = UniqueFd(fd);
    current = fd;
    begin = end + 1;
  }
}

struct DirCloser {
  void operator()(DIR* dir) const { closedir(dir); }
};

// Visits the names in the folder `fd`, which is consumed, until one gives false; hidden ones are
// left out.
template <typename Visit>
void ForEachName(UniqueFd fd, Visit visit) {
  const std::unique_ptr<DIR, DirCloser> dir(fdopendir(fd.get()));
  if (dir == nullptr) return;
  fd.Release();
  while (const dirent* entry = readdir(dir.get())) {
    if (entry->d_name[0] != '.' && !visit(*entry)) return;
  }
}

// What one name takes in a listing, about.
constexpr int64_t kBytesPerEntry = sizeof(FileEntry) + 64;

// Whether a listing may have `entries` names.
absl::Status CheckEntries(const std::string& folder, int64_t entries, const LoadOptions& options) {
  if (entries > DataRoot::kMostFiles) {
    return DatasetTooLarge(folder, {"", fmt::format("at most {} files", DataRoot::kMostFiles),
                                    "more", "divide the data set into several"});
  }
  constexpr int64_t kStep = 1024;
  if (entries % kStep != 0) return absl::OkStatus();
  ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
  return options.CheckMemory(folder, entries * kBytesPerEntry);
}

// Whether a file is one of those in which people keep data, by its name.
bool IsNameOfData(std::string_view name) {
  std::string lower = absl::AsciiStrToLower(std::string(name));
  if (lower.starts_with("readme") || lower.starts_with("license")) return false;
  for (const std::string_view packed : {".gz", ".bz2", ".xz", ".zip"}) {
    if (lower.ends_with(packed)) lower.resize(lower.size() - packed.size());
    if (lower.size() < name.size()) break;
  }
  constexpr std::array<std::string_view, 17> kEndings = {
      ".csv", ".tsv", ".txt", ".json",    ".jsonl", ".inter", ".data", ".dat",  ".npy",
      ".npz", ".bin", ".tar", ".parquet", ".xlsx",  ".png",   ".jpg",  "-ubyte"};
  return std::ranges::any_of(kEndings, [&](auto ending) { return lower.ends_with(ending); });
}

std::string StrayFolderProblem(std::string_view name) {
  const std::string better = base::DatasetNameLike(name);
  return fmt::format(
      "expected folders named with lower-case letters, digits, '-', '_' and '.', found {}; to fix "
      "it, rename the folder{}",
      Quote(name), better.empty() ? "" : fmt::format(" to {}", Quote(better)));
}

std::string StrayFileProblem(std::string_view name) {
  const std::string folder = base::DatasetNameLike(name.substr(0, name.find('.')));
  return fmt::format(
      "expected data sets, each in a folder of its own, found the file {} in the data root itself; "
      "to fix it, make a folder{} there and move the file into it",
      Quote(name), folder.empty() ? "" : fmt::format(" {}", Quote(folder)));
}

}  // namespace

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) close(fd_);
}

absl::Status CheckFileName(std::string_view name) {
  const bool inside = !name.empty() && name != "." && name != ".." &&
                      name.find('/') == std::string_view::npos &&
                      name.find('\0') == std::string_view::npos;
  return inside ? absl::OkStatus() : OutsideRoot(name);
}

absl::Status CheckDatasetName(std::string_view name) {
  if (name.find('/') != std::string_view::npos || name.find('\0') != std::string_view::npos ||
      name.find("..") != std::string_view::npos || name == ".") {
    return OutsideRoot(name);
  }
  if (base::IsDatasetName(name)) return absl::OkStatus();
  return base::InvalidArgument(
      kDataSpecInvalid,
      fmt::format(
          "data set name {} is not valid: expected 1 to {} lower-case letters, digits, '-', '_' "
          "or '.', with a letter or digit at both ends; rename the folder or fix data.dataset",
          Quote(name), base::kLongestDatasetName));
}

absl::StatusOr<UniqueFd> OpenBeneath(int root_fd, const std::string& relative, bool directory,
                                     Resolver resolver) {
  for (size_t begin = 0; begin <= relative.size();) {
    const size_t end = std::min(relative.find('/', begin), relative.size());
    ESPALIER_RETURN_IF_ERROR(CheckFileName(std::string_view(relative).substr(begin, end - begin)));
    begin = end + 1;
  }
  const int flags = kOpenFlags | (directory ? O_DIRECTORY : 0);
  int fd = -1;
  if (resolver == Resolver::kKernel) {
    fd = KernelOpenBeneath(root_fd, relative, flags);
    // EPERM is what some container filters answer to a call they do not know.
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) resolver = Resolver::kComponents;
  }
  if (resolver == Resolver::kComponents) fd = ComponentsOpenBeneath(root_fd, relative, flags);
  if (fd < 0) return OpenError(relative, errno);
  return UniqueFd(fd);
}

absl::StatusOr<DataRoot> DataRoot::Open(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECTORY);
  if (fd < 0) {
    return base::NotFound(kDatasetNotFound,
                          fmt::format("the worker's data root {} cannot be opened: {}; give it an "
                                      "existing folder with one sub-folder per data set",
                                      Quote(path), std::strerror(errno)));
  }
  return DataRoot(UniqueFd(fd));
}

std::vector<std::string> DataRoot::Datasets() const {
  std::vector<std::string> names;
  ForEachName(UniqueFd(openat(fd_.get(), ".", kOpenFlags | O_DIRECTORY)), [&](const dirent& entry) {
    const bool folder =
        entry.d_type == DT_DIR || entry.d_type == DT_LNK || entry.d_type == DT_UNKNOWN;
    if (folder && CheckDatasetName(entry.d_name).ok()) names.emplace_back(entry.d_name);
    return true;
  });
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<Stray> DataRoot::Strays() const {
  // Those that come first by name, with whether they are folders.
  std::map<std::string, bool> first;
  size_t count = 0;
  ForEachName(UniqueFd(openat(fd_.get(), ".", kOpenFlags | O_DIRECTORY)), [&](const dirent& entry) {
    const std::string_view name = entry.d_name;
    struct stat info {};
    if (fstatat(fd_.get(), entry.d_name, &info, 0) != 0) return true;
    const bool folder = S_ISDIR(info.st_mode);
    const bool of_system = name == "lost+found" || name.starts_with("__");
    const bool stray = folder ? !of_system && !CheckDatasetName(name).ok()
                              : S_ISREG(info.st_mode) && IsNameOfData(name);
    if (!stray) return true;
    ++count;
    first.emplace(name, folder);
    if (first.size() > kMostStrays) first.erase(std::prev(first.end()));
    return true;
  });
  constexpr size_t kMostNameBytes = 100;
  std::vector<Stray> strays;
  strays.reserve(first.size());
  for (const auto& [name, folder] : first) {
    strays.push_back({std::string(base::Utf8Prefix(base::AsUtf8(name), kMostNameBytes)),
                      folder ? StrayFolderProblem(name) : StrayFileProblem(name)});
  }
  if (count > strays.size()) {
    strays.back().problem += fmt::format(
        "; {} more files and folders of this data root are no "
        "data sets either",
        count - strays.size());
  }
  return strays;
}

absl::StatusOr<UniqueFd> DataRoot::OpenFolder(const std::string& dataset,
                                              const std::string& folder) const {
  ESPALIER_RETURN_IF_ERROR(CheckDatasetName(dataset));
  if (!folder.empty()) return OpenBeneath(fd_.get(), dataset + "/" + folder, true);
  absl::StatusOr<UniqueFd> opened = OpenBeneath(fd_.get(), dataset, true);
  if (opened.ok() || !absl::IsNotFound(opened.status())) return opened;
  for (const Stray& stray : Strays()) {
    if (stray.name == dataset) return base::NotFound(kDatasetNotFound, stray.problem);
  }
  std::vector<std::string> names = Datasets();
  const size_t count = names.size();
  names.resize(std::min(count, kMostNamesListed));
  return base::NotFound(
      kDatasetNotFound,
      fmt::format("data set {} is not under this worker's data root; there {}: {}{}. Use one of "
                  "them, or add a folder of that name",
                  Quote(dataset), count == 1 ? "is" : "are",
                  count == 0 ? "none" : fmt::format("{}", fmt::join(names, ", ")),
                  count > kMostNamesListed ? ", ..." : ""));
}

absl::StatusOr<FolderListing> DataRoot::List(const std::string& dataset, const std::string& folder,
                                             const LoadOptions& options) const {
  ESPALIER_ASSIGN_OR_RETURN(UniqueFd opened, OpenFolder(dataset, folder));
  const int folder_fd = opened.get();
  const std::string name = folder.empty() ? dataset : dataset + "/" + folder;
  FolderListing listing;
  absl::Status status;
  ForEachName(std::move(opened), [&](const dirent& entry) {
    struct stat info {};
    if (fstatat(folder_fd, entry.d_name, &info, 0) != 0) return true;
    if (S_ISDIR(info.st_mode)) listing.folders.emplace_back(entry.d_name);
    if (S_ISREG(info.st_mode)) {
      listing.files.push_back(
          {entry.d_name, info.st_size,
           info.st_mtim.tv_sec * int64_t{1'000'000'000} + info.st_mtim.tv_nsec});
    }
    status = CheckEntries(name, static_cast<int64_t>(listing.files.size() + listing.folders.size()),
                          options);
    return status.ok();
  });
  ESPALIER_RETURN_IF_ERROR(status);
  std::sort(listing.files.begin(), listing.files.end(),
            [](const FileEntry& a, const FileEntry& b) { return a.name < b.name; });
  std::sort(listing.folders.begin(), listing.folders.end());
  return listing;
}

absl::StatusOr<std::vector<FileEntry>> DataRoot::Files(const std::string& dataset) const {
  ESPALIER_ASSIGN_OR_RETURN(FolderListing listing, List(dataset, "", LoadOptions{}));
  return std::move(listing.files);
}

absl::StatusOr<UniqueFd> DataRoot::OpenFile(const std::string& dataset,
                                            const std::string& file) const {
  ESPALIER_RETURN_IF_ERROR(CheckDatasetName(dataset));
  ESPALIER_RETURN_IF_ERROR(CheckFileName(file));
  return OpenPath(dataset, file);
}

absl::StatusOr<UniqueFd> DataRoot::OpenPath(const std::string& dataset,
                                            const std::string& path) const {
  ESPALIER_RETURN_IF_ERROR(CheckDatasetName(dataset));
  const std::string relative = dataset + "/" + path;
  ESPALIER_ASSIGN_OR_RETURN(UniqueFd fd, OpenBeneath(fd_.get(), relative, false));
  struct stat info {};
  if (fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
    return DatasetInvalid(
        relative, {"", "a regular file", "a folder or a device", "put the data file itself there"});
  }
  return fd;
}

}  // namespace espalier::worker::data
