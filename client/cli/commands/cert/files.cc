#include "client/cli/commands/cert/files.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "common/base/status.h"
#include "common/config/text.h"
#include "common/io/atomic_file.h"
#include "common/io/file_system.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

// Of a passphrase.
constexpr size_t kMostBytes = 1000;

std::string Inside(const std::string& folder, const std::string& name) {
  return fmt::format("{}/{}", folder, name);
}

}  // namespace

PrivateFiles::PrivateFiles() : former_(umask(S_IRWXG | S_IRWXO)) {}
PrivateFiles::~PrivateFiles() { umask(former_); }

absl::StatusOr<NewFolder> NewFolder::Beside(const std::string& path) {
  const std::filesystem::path whole(path);
  std::string made = (whole.parent_path() / ("." + whole.filename().string() + ".XXXXXX")).string();
  if (mkdtemp(made.data()) == nullptr) {
    return base::FailedPrecondition(
        "FOLDER_UNUSABLE",
        fmt::format("expected to make a folder beside {}, found: {}; make its parent folder, or "
                    "name another with --dir",
                    config::Quoted(path), std::strerror(errno)));
  }
  return NewFolder(made);
}

NewFolder::~NewFolder() {
  std::error_code ignored;
  if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
}

absl::Status NewFolder::KeepAs(const std::string& path) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_RETURN_IF_ERROR(files.Rename(path_, path));
  path_.clear();
  return files.SyncDirectory(io::DirectoryOf(path));
}

absl::Status NewFolder::KeepIn(const std::string& folder, const std::string& last) {
  io::FileSystem& files = io::PosixFileSystem();
  ESPALIER_ASSIGN_OR_RETURN(std::vector<std::string> names, files.List(path_));
  std::erase(names, last);
  names.push_back(last);
  for (const std::string& name : names) {
    ESPALIER_RETURN_IF_ERROR(files.Rename(Inside(path_, name), Inside(folder, name)));
  }
  return files.SyncDirectory(folder);
}

absl::Status WriteTogether(const std::string& folder, const Files& files) {
  io::FileSystem& system = io::PosixFileSystem();
  ESPALIER_RETURN_IF_ERROR(system.CreateDirectories(folder));
  std::vector<io::AtomicFile> written;
  for (const auto& [name, bytes] : files) {
    ESPALIER_ASSIGN_OR_RETURN(io::AtomicFile file,
                              io::AtomicFile::Create(system, Inside(folder, name)));
    ESPALIER_RETURN_IF_ERROR(file.Append(bytes));
    ESPALIER_RETURN_IF_ERROR(file.Finish());
    written.push_back(std::move(file));
  }
  for (io::AtomicFile& file : written) ESPALIER_RETURN_IF_ERROR(file.Commit());
  return absl::OkStatus();
}

absl::StatusOr<std::string> ReadText(const std::string& path, size_t most) {
  return io::ReadFile(io::PosixFileSystem(), path, most);
}

absl::StatusOr<std::string> ReadPassphrase(const std::string& path) {
  const auto unreadable = [&path](const std::string& found) {
    return base::InvalidArgument(
        "PASSPHRASE_FILE_UNREADABLE",
        fmt::format("expected a passphrase of 1 to {} bytes in the first line of {}, found {}; "
                    "name another file with --passphrase-file",
                    kMostBytes, config::Quoted(path), found));
  };
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) return unreadable(std::strerror(errno));
  std::string line(kMostBytes + 2, '\0');
  file.read(line.data(), static_cast<std::streamsize>(line.size()));
  line.resize(static_cast<size_t>(file.gcount()));
  line.resize(std::min(line.find_first_of("\r\n"), line.size()));
  if (line.empty()) return unreadable("none");
  if (line.size() > kMostBytes) return unreadable("a longer one");
  return line;
}

}  // namespace espalier::cli::cert
